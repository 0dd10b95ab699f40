"""Submission of sweeps and batch scripts; scripts replace the commands of SLURM."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_commands import calls, fake_commands, small_runs, submission_of

from paibench.benchmark.store import failures, lease
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.sweep import Sweep, expand
from paibench.methods.core import registry
from paibench.methods.core.registry import UserError
from paibench.slurm import submit as submits
from paibench.slurm.cluster import Limits
from paibench.slurm.profile import Profile
from paibench.slurm.queue import Queue, QueuedJob
from paibench.slurm.submission import Submission, changed_plugin
from paibench.slurm.submit import SubmissionPlan, check_plugins, plan_submission, submit

SUBMITTED = "Submitted batch job 17"  # the answer of sbatch
PROFILE = Profile(name="a", runs_per_job=2)
RUNS = small_runs(3)


@pytest.fixture
def sweep() -> Sweep:
    """Seven runs."""
    product = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
    return expand({"name": "tiny", "product": product | {"method": "random", "seed": [*range(7)]}})


def planned(
    sweep: Sweep, store: Store, queue: Queue | None = None, **limits: int
) -> SubmissionPlan:
    return plan_submission(sweep, store, PROFILE, Limits(**limits), queue, None)


def counts(plan: SubmissionPlan) -> tuple[int, int, int]:
    """Return the numbers of runs that are under way, to be queued, and waiting."""
    return len(plan.under_way), len(plan.queued), plan.waiting


@pytest.fixture
def first(sweep: Sweep, store: Store) -> Submission:
    """A submission of the sweep on disk: four jobs, three of them with two runs."""
    submission = planned(sweep, store).submission
    assert submission is not None
    submission.write()
    return submission


# -- the plan --------------------------------------------------------------------------------------


def test_a_plan_changes_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """A plan needs no store on disk."""
    plan = planned(sweep, Store(tmp_path / "none"))
    assert counts(plan) == (0, 7, 0)
    assert plan.submission is not None
    assert plan.submission.chunks() == [4]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "others", "expected"),
    [
        ({"max_array_size": 3}, 0, [3, 1]),
        ({"max_submit": 3}, 0, [3]),
        ({"max_jobs": 3}, 2, [1]),
        ({"max_submit": 3, "max_jobs": 2}, 0, [2]),
        ({"max_submit": 3}, 5, []),
    ],
    ids=["array", "submit", "others", "both", "full"],
)
def test_limits_of_the_cluster(
    sweep: Sweep, store: Store, limits: dict[str, int], others: int, expected: list[int]
) -> None:
    """Runs beyond the limits wait."""
    queue = Queue(store, (), frozenset(range(others)))
    plan = planned(sweep, store, queue, **limits)
    assert (plan.submission.chunks() if plan.submission else []) == expected
    assert len(plan.queued) + plan.waiting == 7


def test_queued_runs_are_left_out(sweep: Sweep, store: Store, first: Submission) -> None:
    """A queued run is under way even if its last attempt failed permanently."""
    for spec in first.bundle(0, 0):
        failures.record_failure(store, spec, "host.1.00000000", "plugin", "no")
    job = QueuedJob(7, "7_0", 0, "PENDING", f"{first.name}-0", "")
    plan = planned(sweep, store, Queue(store, (job,), frozenset()))
    assert (counts(plan), plan.failed) == ((2, 5, 0), ())
    alone = planned(sweep, store)
    assert (counts(alone), len(alone.failed)) == ((0, 5, 0), 2)


@pytest.mark.parametrize(
    ("state", "under_way"),
    [("PENDING", 2), ("RUNNING", 2), ("SUSPENDED", 2), ("REQUEUED", 2), ("COMPLETING", 0)],
)
def test_states_of_queued_jobs(
    sweep: Sweep, store: Store, first: Submission, state: str, under_way: int
) -> None:
    """The runs of a job that is about to end are queued again."""
    job = QueuedJob(7, "7_0", 0, state, f"{first.name}-0", "None")
    plan = planned(sweep, store, Queue(store, (job,), frozenset()))
    assert counts(plan) == (under_way, 7 - under_way, 0)


def test_leased_runs_are_left_out(sweep: Sweep, store: Store) -> None:
    """A lease of a local pool counts."""
    assert store.acquire_lease(sweep.specs[3].key, "host.1.00000000") is not None
    assert counts(planned(sweep, store)) == (1, 6, 0)


# -- the submission --------------------------------------------------------------------------------


def test_submit(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submission is complete on disk when sbatch is called."""
    check = f"ls {store.root}/submissions/*/manifest.json >/dev/null || exit 1"
    fake_commands(tmp_path, monkeypatch, squeue="", sbatch=f"{check}\necho {SUBMITTED}")
    plan, ids = submit(sweep, store, PROFILE, Limits(), None)
    assert ids == ["17"]
    assert plan.submission is not None
    assert Submission.read(plan.submission.folder) == plan.submission
    assert not (store.root / "submissions" / "claim").exists()


@pytest.mark.parametrize(
    ("polls", "message"),
    [
        (3 * submits._QUIET_POLLS, "paibench: waiting for another submission to this store\n"),
        (1, ""),
    ],
    ids=["long", "short"],
)
def test_one_submission_at_a_time(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    polls: int,
    message: str,
) -> None:
    """A submission waits for another one to the same store; a long wait is announced once."""
    other = lease.acquire(store.root / "submissions", "host.1.00000000")
    assert other is not None
    polled = 0

    def sleep(seconds: float) -> None:
        nonlocal polled
        polled += 1
        assert calls(tmp_path, "squeue") == []
        if polled == polls:
            other.release()

    fake_commands(tmp_path, monkeypatch, squeue="", sbatch=f"echo {SUBMITTED}")
    monkeypatch.setattr("paibench.slurm.submit.sleep", sleep)
    assert submit(sweep, store, PROFILE, Limits(), None)[1] == ["17"]
    assert capsys.readouterr().err == message


def test_a_full_queue(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays before the refused one stay queued, its runs wait."""
    once = f"mkdir {tmp_path}/once 2>/dev/null && echo {SUBMITTED} && exit 0"
    full = "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1"
    fake_commands(tmp_path, monkeypatch, squeue="", sbatch=f"{once}\n{full}")
    limits = Limits(max_array_size=2)
    plan, ids = submit(sweep, store, PROFILE, limits, None)
    assert (ids, counts(plan)) == (["17"], (0, 4, 3))
    plan, ids = submit(sweep, store, PROFILE, limits, None)
    assert (ids, counts(plan)) == ([], (0, 0, 7))
    assert len(list((store.root / "submissions").iterdir())) == 1


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({"squeue": "exit 1"}, "controller does not answer squeue"),
        ({"squeue": "", "sbatch": "echo 'sbatch: error: bad' >&2; exit 1"}, "sbatch refuses: bad"),
    ],
    ids=["no answer", "refused"],
)
def test_a_refused_submission_leaves_nothing(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scripts: dict[str, str],
    message: str,
) -> None:
    """There is no submission and no lease, only one line that says why."""
    monkeypatch.setattr(submits, "_QUEUE_ATTEMPTS", 1)
    fake_commands(tmp_path, monkeypatch, **scripts)
    with pytest.raises(UserError, match=message):
        submit(sweep, store, PROFILE, Limits(), None)
    assert list((store.root / "submissions").iterdir()) == []


def test_held_jobs_are_replaced(
    sweep: Sweep,
    store: Store,
    first: Submission,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that SLURM holds permanently is cancelled and its runs are queued again."""
    line = f"7|7_0|0|PENDING|{first.name}-0||N/A|launch failed requeued held"
    fake_commands(
        tmp_path, monkeypatch, squeue=f"echo '{line}'", scancel="", sbatch=f"echo {SUBMITTED}"
    )
    plan, _ = submit(sweep, store, PROFILE, Limits(), None)
    assert counts(plan) == (0, 7, 0)
    assert calls(tmp_path, "scancel") == ["scancel 7_0"]


def test_an_unannounced_limit(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an array is refused for its size, half of its jobs are submitted, and so on."""
    small = "[ $(sed -n 's/.*--array=0-\\([0-9]*\\)%.*/\\1/p' \"$1\") -lt 2 ]"
    full = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1"
    fake_commands(
        tmp_path, monkeypatch, squeue="", sbatch=f"{small} || {{ {full}; }}\necho {SUBMITTED}"
    )
    plan, ids = submit(sweep, store, PROFILE, Limits(), None)
    assert (ids, counts(plan)) == (["17"], (0, 4, 3))
    (kept,) = (store.root / "submissions").glob("*-*")
    assert Submission.read(kept) == plan.submission


# -- batch scripts ---------------------------------------------------------------------------------


def test_options_of_a_script(tmp_path: Path) -> None:
    """A script has the job's name, array, log, warning and resources."""
    store = Store.open(tmp_path / "a store")
    submission = submission_of(
        store, RUNS, setup=["module load cuda"], extra={"nice": 5, "exclusive": True}
    )
    script = submits.script(submission, 0)
    options = set(re.findall("^#SBATCH (.*)$", script, re.MULTILINE))
    assert {
        f"--job-name={submission.name}-0",
        "--array=0-1%2",
        "--open-mode=append",
        "--signal=USR2@90",
        "--requeue",
        "--nice=5",
        "--exclusive",
        "--mem=8192M",
    } <= options
    (output,) = (option for option in options if option.startswith("--output="))
    assert shlex.split(output)[0].startswith(f"--output={submission.logs}/")
    assert "module load cuda" in script.splitlines()
    assert "--array=0-0%1" in submits.script(submission, 1)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_command_of_a_job(tmp_path: Path) -> None:
    """The folder is one word; container and python are the profile's."""
    store = Store.open(tmp_path / "a store")
    submission = submission_of(store, RUNS)
    words = shlex.split(submits.command(submission, 1))
    assert words == [
        *(sys.executable, "-P", "-u", "-m", "paibench.slurm.run_job"),
        *(str(submission.folder), "1"),
    ]
    container = submission_of(store, RUNS, container="apptainer exec --nv x.sif", python="python3")
    expected = "apptainer exec --nv x.sif python3 -P -u -m paib"
    assert submits.command(container, 0).startswith(expected)


def test_array_parallelism(store: Store) -> None:
    """`array_parallelism` limits the jobs of an array that run at once."""
    assert "--array=0-1%1" in submits.script(submission_of(store, RUNS, array_parallelism=1), 0)


def test_scripts_to_submit_by_hand(store: Store) -> None:
    """Each array has a script beside the manifest."""
    given = (store, "a", [(run,) for run in RUNS], 2, PROFILE, None)
    submission = Submission.new(*given, retry=False, plugins={})
    paths = submits.write_scripts(submission)
    assert [path.name for path in paths] == ["array-0.sh", "array-1.sh"]
    assert [path.read_text() for path in paths] == [submits.script(submission, n) for n in (0, 1)]
    assert Submission.read(submission.folder) == submission


# -- answers of sbatch -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output", [SUBMITTED, f"{SUBMITTED} on cluster other", f"a banner of the site\n{SUBMITTED}"]
)
def test_the_id_of_an_array(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """sbatch prints the id, and on some sites more."""
    fake_commands(tmp_path, monkeypatch, sbatch=f"echo '{output}'", squeue="exit 1")
    assert submits.queue_array(submission_of(store, RUNS), 0) == "17"
    assert len(calls(tmp_path, "sbatch")) == 1


def test_the_submitted_script_is_the_printed_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit submits the options and commands that `script` prints, and executes no other."""
    fake_commands(tmp_path, monkeypatch, sbatch=f"cp $1 {tmp_path}/sent\necho {SUBMITTED}")
    submission = submission_of(store, RUNS, setup=["module load cuda"])
    submits.queue_array(submission, 0)
    sent = [line for line in (tmp_path / "sent").read_text().splitlines() if line]
    printed = [line for line in submits.script(submission, 0).splitlines() if line]
    assert {shlex.join(shlex.split(line)) for line in sent if line.startswith("#SBATCH")} == {
        shlex.join(shlex.split(line)) for line in printed if line.startswith("#SBATCH")
    }
    *_, setup, srun, last = printed
    commands = [line for line in sent if not line.startswith("#")]
    assert commands[:3] == [setup, srun, last]
    assert (srun.split()[0], last) == ("srun", "exit")


@pytest.mark.parametrize(
    "sbatch",
    [
        "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1",
        "echo Submitted",
    ],
    ids=["failed", "no id"],
)
def test_a_lost_id_does_not_double_an_array(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str
) -> None:
    """An array that was queued although sbatch returned no id is found by its name."""
    fake_commands(tmp_path, monkeypatch, sbatch=sbatch, squeue="echo 44; echo 44")
    assert submits.queue_array(submission_of(store, RUNS), 0) == "44"
    assert len(calls(tmp_path, "sbatch")) == 1


def test_options_of_other_jobs_are_not_inherited(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a job, or with options in the environment, sbatch is called as from a login node."""
    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    fake_commands(
        tmp_path,
        monkeypatch,
        sbatch=f"env | grep -E '^(SLURM|SBATCH)' > {tmp_path}/env\necho {SUBMITTED}",
    )
    submits.queue_array(submission_of(store, RUNS), 0)
    lines = (tmp_path / "env").read_text().split()
    assert sorted(lines) == ["SLURM_CONF=x", "SLURM_TIME_FORMAT=standard"]


@pytest.mark.parametrize(
    "message",
    [
        "Unable to contact slurm controller (connect failure)",
        pytest.param(
            "Batch job submission failed: Transport endpoint is not connected",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "Batch job submission failed: Zero Bytes were transmitted or received",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_unavailable_controller(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    """sbatch is called a few times; then one line says what to do."""
    monkeypatch.setattr(submits, "SEARCH_SECONDS", 0.1)
    monkeypatch.setattr(submits, "sleep", lambda _: time.sleep(0.1))
    script = f"echo 'sbatch: error: {message}' >&2; exit 1"
    fake_commands(tmp_path, monkeypatch, sbatch=script, squeue="exit 1")
    with pytest.raises(UserError, match=r"3 attempts.*submit again when") as caught:
        submits.queue_array(submission_of(store, RUNS), 0)
    assert message in str(caught.value)
    assert len(calls(tmp_path, "sbatch")) == submits.SBATCH_ATTEMPTS


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("AssocMaxSubmitJobLimit", submits.QueueFull),
        ("QOSMaxSubmitJobPerUserLimit", submits.QueueFull),
        ("Batch job submission failed: Invalid qos specification", UserError),
    ],
)
def test_a_refusal_of_sbatch(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    error: type[Exception],
) -> None:
    """sbatch is called once; a full queue differs from jobs that are never accepted."""
    script = f"echo 'sbatch: error: {message}' >&2; exit 1"
    fake_commands(tmp_path, monkeypatch, sbatch=script, squeue="")
    with pytest.raises(error, match=message):
        submits.queue_array(submission_of(store, RUNS), 0)
    assert len(calls(tmp_path, "sbatch")) == 1


# -- third-party methods ---------------------------------------------------------------------------

METADATA = "Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n"
WORKING = "def working(net, task, density):\n    return {}\n"
BROKEN = "raise ImportError('two\\nlines')\n"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with three methods, two of which cannot be imported; only this process finds it."""
    (tmp_path / "working_module.py").write_text(WORKING)
    (tmp_path / "broken_module.py").write_text(BROKEN)
    metadata = tmp_path / "plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(METADATA)
    modules = {"working": "working_module", "broken": "broken_module", "absent": "absent_module"}
    lines = [f"{name} = {module}:{name}" for name, module in modules.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[paibench.methods]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    yield tmp_path
    registry._entries.cache_clear()


@pytest.fixture
def installed(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same package, which workers find too."""
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    return plugin


@pytest.mark.usefixtures("plugin")
def test_own_methods_are_not_imported() -> None:
    """Only third-party methods are checked."""
    assert check_plugins(["snip", "random"]) == {}


@pytest.mark.usefixtures("installed")
def test_the_digest_of_a_method() -> None:
    """A method that another process can import is identified by the digest of its file."""
    digests = check_plugins(["working", "snip"])
    assert {name: len(digest) for name, digest in digests.items()} == {"working": 64}
    assert "working_module" not in sys.modules


@pytest.mark.parametrize("method", ["broken", "absent"])
@pytest.mark.usefixtures("installed")
def test_a_method_that_cannot_be_imported(method: str) -> None:
    """The method is refused in one line."""
    message = f"^method {method} cannot be imported where jobs run: "
    with pytest.raises(UserError, match=message) as caught:
        check_plugins(["working", method])
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("plugin")
def test_a_method_that_only_this_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module on the path of this process alone cannot be imported by a job."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    message = "method working cannot be imported where jobs run: .*unknown"
    with pytest.raises(UserError, match=message):
        check_plugins(["working"])


def test_a_method_that_changed(installed: Path) -> None:
    """A changed file is noticed for the methods of a job; a missing method is not a change."""
    digests = check_plugins(["working"])
    assert changed_plugin(digests, ["working", "snip"]) is None
    (installed / "working_module.py").write_text(WORKING + "# edited\n")
    assert changed_plugin(digests, ["snip"]) is None
    message = "the code of method working changed after submission; submit again"
    assert changed_plugin(digests, ["working"]) == message

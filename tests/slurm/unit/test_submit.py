"""What submitting a sweep comes to; scripts stand in for the commands of SLURM."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standing_in import stand_in

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures, lease
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.sweep import Sweep, expand
from paibench.methods.core import registry
from paibench.methods.core.registry import UserError
from paibench.slurm import submit as submits
from paibench.slurm.cluster import Limits
from paibench.slurm.profile import Profile
from paibench.slurm.queue import Queue, QueuedJob
from paibench.slurm.submission import Submission, changed, third_party, try_out
from paibench.slurm.submit import SubmissionPlan, plan_submission, submit

PROFILE = Profile(name="a", runs_per_job=2)


@pytest.fixture
def sweep() -> Sweep:
    """Seven runs."""
    product = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
    return expand({"name": "tiny", "product": product | {"method": "random", "seed": [*range(7)]}})


def seen(sweep: Sweep, store: Store, there: Queue | None = None, **limits: int) -> SubmissionPlan:
    return plan_submission(sweep, store, PROFILE, Limits(**limits), there, None)


def counts(found: SubmissionPlan) -> tuple[int, int, int]:
    """How many runs are under way, to be queued, waiting."""
    return len(found.under_way), len(found.queued), found.waiting


def test_looking_changes_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """A store need not even be there."""
    found = seen(sweep, Store(tmp_path / "none"))
    assert counts(found) == (0, 7, 0)
    assert found.campaign is not None
    assert found.campaign.chunks() == [4]
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
def test_as_much_as_there_is_room_for(
    sweep: Sweep, store: Store, limits: dict[str, int], others: int, expected: list[int]
) -> None:
    """What does not fit waits."""
    there = Queue(store, (), frozenset(range(others)))
    found = seen(sweep, store, there, **limits)
    assert (found.campaign.chunks() if found.campaign else []) == expected
    assert len(found.queued) + found.waiting == 7


def test_what_is_queued_is_left_out(sweep: Sweep, store: Store) -> None:
    """A queued run is under way even where its last attempt failed for good."""
    first = seen(sweep, store).campaign
    assert first is not None
    first.write()
    for spec in first.bundle(0, 0):
        failures.record_failure(store, spec, "host.1.00000000", "plugin", "no")
    job = QueuedJob(7, "7_0", 0, "PENDING", f"{first.name}-0", "")
    found = seen(sweep, store, Queue(store, (job,), frozenset()))
    assert (counts(found), found.failed) == ((2, 5, 0), ())
    alone = seen(sweep, store)
    assert (counts(alone), len(alone.failed)) == ((0, 5, 0), 2)


@pytest.mark.parametrize(
    ("state", "under_way"),
    [("PENDING", 2), ("RUNNING", 2), ("SUSPENDED", 2), ("REQUEUED", 2), ("COMPLETING", 0)],
)
def test_what_a_job_has_yet_to_do(sweep: Sweep, store: Store, state: str, under_way: int) -> None:
    """A job that is about to end does nothing more, and its runs are queued again."""
    first = seen(sweep, store).campaign
    assert first is not None
    first.write()
    job = QueuedJob(7, "7_0", 0, state, f"{first.name}-0", "None")
    found = seen(sweep, store, Queue(store, (job,), frozenset()))
    assert counts(found) == (under_way, 7 - under_way, 0)


def test_what_somebody_is_at_is_left_out(sweep: Sweep, store: Store) -> None:
    """A claim of a local pool counts."""
    held = store.acquire_lease(sweep.specs[3].key, "host.1.00000000")
    assert held is not None
    assert counts(seen(sweep, store)) == (1, 6, 0)


def test_submitting(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The campaign is whole on disk when sbatch is called."""
    check = f"ls {store.root}/submissions/*/manifest.json >/dev/null || exit 1"
    stand_in(tmp_path, monkeypatch, squeue="", sbatch=f"{check}\necho Submitted batch job 17")
    found, numbers = submit(sweep, store, PROFILE, Limits(), None)
    assert numbers == ["17"]
    assert found.campaign is not None
    assert Submission.read(found.campaign.folder) == found.campaign
    assert not (store.root / "submissions" / "claim").exists()


def test_one_submission_at_a_time(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While another submission to the store is made, one waits for it and says so once."""
    other = lease.acquire(store.root / "submissions", "host.1.00000000")
    assert other is not None
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert not (tmp_path / "calls").exists()
        if looks == 3 * submits._SILENT_TURNS:
            other.release()

    stand_in(tmp_path, monkeypatch, squeue="", sbatch="echo Submitted batch job 17")
    monkeypatch.setattr("paibench.slurm.submit.sleep", sleep)
    assert submit(sweep, store, PROFILE, Limits(), None)[1] == ["17"]
    said = "paibench: another submission to this store is made; waiting\n"
    assert capsys.readouterr().err == said


def test_a_short_wait_for_another_submission_is_silent(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What takes a moment is not worth a line."""
    other = lease.acquire(store.root / "submissions", "host.1.00000000")
    assert other is not None
    stand_in(tmp_path, monkeypatch, squeue="", sbatch="echo Submitted batch job 17")
    monkeypatch.setattr("paibench.slurm.submit.sleep", lambda seconds: other.release())
    assert submit(sweep, store, PROFILE, Limits(), None)[1] == ["17"]
    assert capsys.readouterr().err == ""


def test_an_array_for_which_there_is_no_room(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays before it are queued, its runs wait."""
    once = f"mkdir {tmp_path}/once 2>/dev/null && echo Submitted batch job 17 && exit 0"
    full = "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, squeue="", sbatch=f"{once}\n{full}")
    limits = Limits(max_array_size=2)
    found, numbers = submit(sweep, store, PROFILE, limits, None)
    assert (numbers, counts(found)) == (["17"], (0, 4, 3))
    found, numbers = submit(sweep, store, PROFILE, limits, None)
    assert (numbers, counts(found)) == ([], (0, 0, 7))
    assert len(list((store.root / "submissions").iterdir())) == 1


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({"squeue": "exit 1"}, "controller does not answer squeue"),
        ({"squeue": "", "sbatch": "echo 'sbatch: error: bad' >&2; exit 1"}, "sbatch refuses: bad"),
    ],
    ids=["no answer", "refused"],
)
def test_what_is_refused_leaves_nothing(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scripts: dict[str, str],
    said: str,
) -> None:
    """No campaign, no claim, and one line that says why."""
    monkeypatch.setattr(submits, "_ANSWERS", 1)
    stand_in(tmp_path, monkeypatch, **scripts)
    with pytest.raises(UserError, match=said):
        submit(sweep, store, PROFILE, Limits(), None)
    assert list((store.root / "submissions").iterdir()) == []


def test_jobs_that_never_start_are_replaced(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that SLURM gave up is cancelled and its runs are queued again."""
    first = seen(sweep, store).campaign
    assert first is not None
    first.write()
    line = f"7|7_0|0|PENDING|{first.name}-0||N/A|launch failed requeued held"
    stand_in(
        *(tmp_path, monkeypatch),
        squeue=f"echo '{line}'",
        scancel="",
        sbatch="echo Submitted batch job 17",
    )
    found, _ = submit(sweep, store, PROFILE, Limits(), None)
    assert counts(found) == (0, 7, 0)
    assert "scancel 7_0\n" in (tmp_path / "calls").read_text()


def test_a_limit_that_nobody_tells(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an array is refused for its size, as many jobs are queued as are taken."""
    small = "[ $(sed -n 's/.*--array=0-\\([0-9]*\\)%.*/\\1/p' \"$1\") -lt 2 ]"
    full = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, squeue="", sbatch=f"{small} || {{ {full}; }}\necho job 17")
    found, numbers = submit(sweep, store, PROFILE, Limits(), None)
    assert (numbers, counts(found)) == (["17"], (0, 4, 3))
    (kept,) = (store.root / "submissions").glob("*-*")
    assert Submission.read(kept) == found.campaign


# test_slurm_batch: Batch scripts, and what is made of sbatch's answers; scripts stand in for
# its commands.

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUNS = [Spec.model_validate(GIVEN | {"method": "random", "seed": seed}) for seed in range(3)]


def campaign(folder: Path, **keys: object) -> Submission:
    """Three jobs in arrays of two, on disk."""
    profile = Profile.model_validate({"name": "a", **keys})
    given = (Store.open(folder / "a store"), "a", [(run,) for run in RUNS], 2, profile, None)
    made = Submission.new(*given, retry=False, plugins={})
    made.write()
    return made


def test_a_script_says_it_all(tmp_path: Path) -> None:
    """Name, array, logs that are appended to, warning, requeue; no pickle and no wckey."""
    made = campaign(tmp_path, setup=["module load cuda"], extra={"nice": 5, "exclusive": True})
    script = submits.script(made, 0)
    options = set(re.findall("^#SBATCH (.*)$", script, re.MULTILINE))
    assert {
        f"--job-name={made.name}-0",
        "--array=0-1%2",
        "--open-mode=append",
        "--signal=USR2@90",
        "--requeue",
        "--nice=5",
        "--exclusive",
        "--mem=8192M",
    } <= options
    (output,) = (option for option in options if option.startswith("--output="))
    assert shlex.split(output)[0].startswith(f"--output={made.logs}/")
    assert "module load cuda" in script.splitlines()
    assert "pickle" not in script and "pkl" not in script and "wckey" not in script
    assert "--array=0-0%1" in submits.script(made, 1)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_command_of_a_job(tmp_path: Path) -> None:
    """It is our own, with the folder as one word; container and python are the profile's."""
    made = campaign(tmp_path)
    words = shlex.split(submits.command(made, 1))
    assert words == [
        *(sys.executable, "-P", "-u", "-m", "paibench.slurm.run_job", str(made.folder), "1")
    ]
    boxed = campaign(tmp_path, container="apptainer exec --nv x.sif", python="python3")
    assert submits.command(boxed, 0).startswith("apptainer exec --nv x.sif python3 -P -u -m paib")


def test_the_throttle_is_the_profiles(tmp_path: Path) -> None:
    """No more jobs of an array at once than array_parallelism."""
    assert "--array=0-1%1" in submits.script(campaign(tmp_path, array_parallelism=1), 0)


def calls(folder: Path, command: str) -> int:
    return (folder / "calls").read_text().count(f"{command} ")


def test_the_number_of_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what sbatch says."""
    stand_in(tmp_path, monkeypatch, sbatch="echo Submitted batch job 17", squeue="exit 1")
    assert submits.queue_array(campaign(tmp_path), 0) == "17"
    assert calls(tmp_path, "sbatch") == 1


def test_a_lost_answer_does_not_double_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array that was queued although sbatch failed is found by its name."""
    lost = "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, sbatch=lost, squeue="echo 44; echo 44")
    assert submits.queue_array(campaign(tmp_path), 0) == "44"
    assert calls(tmp_path, "sbatch") == 1


@pytest.mark.parametrize(
    "said",
    [
        "Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Transport endpoint is not connected",
        "Batch job submission failed: Zero Bytes were transmitted or received",
    ],
)
def test_a_controller_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """It is tried a few times, and said in one line with what to do."""
    monkeypatch.setattr(submits, "LOOK_SECONDS", 0.1)
    away = f"echo 'sbatch: error: {said}' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, sbatch=away, squeue="exit 1")
    with pytest.raises(UserError, match=r"3 tries.*say submit again when") as caught:
        submits.queue_array(campaign(tmp_path), 0)
    assert said in str(caught.value)
    assert calls(tmp_path, "sbatch") == submits.TRIES


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("AssocMaxSubmitJobLimit", submits.QueueFull),
        ("QOSMaxSubmitJobPerUserLimit", submits.QueueFull),
        ("Batch job submission failed: Invalid qos specification", UserError),
    ],
)
def test_what_sbatch_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception]
) -> None:
    """It is asked once; a full queue is told from what will never be taken."""
    stand_in(tmp_path, monkeypatch, sbatch=f"echo 'sbatch: error: {said}' >&2; exit 1", squeue="")
    with pytest.raises(kind, match=said):
        submits.queue_array(campaign(tmp_path), 0)
    assert calls(tmp_path, "sbatch") == 1


def test_scripts_for_the_hand(tmp_path: Path) -> None:
    """One for each array lies beside the manifest."""
    given = campaign(tmp_path)
    made = Submission.new(
        *(Store.read(given.store), "a", given.bundles, 2, given.profile, None),
        retry=False,
        plugins={},
    )
    paths = submits.write_scripts(made)
    assert [path.name for path in paths] == ["array-0.sh", "array-1.sh"]
    assert [path.read_text() for path in paths] == [
        submits.script(made, 0),
        submits.script(made, 1),
    ]
    assert Submission.read(made.folder) == made


# test_slurm_plugins: Third parties' methods before anything is queued, and on the node.

METADATA = "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n"
SOUND = "def sound(net, task, density):\n    return {}\n"
BROKEN = "raise ImportError('two\\nlines')\n"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two installed modules, one of which cannot be imported; this process finds them."""
    (tmp_path / "sound_one.py").write_text(SOUND)
    (tmp_path / "broken_one.py").write_text(BROKEN)
    about = tmp_path / "stranger-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    entries = "sound = sound_one:sound\nbroken = broken_one:broken\nabsent = absent_one:absent\n"
    (about / "entry_points.txt").write_text(f"[paibench.methods]\n{entries}")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    yield tmp_path
    registry._entries.cache_clear()


@pytest.fixture
def installed(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where workers find them too."""
    monkeypatch.setenv("PYTHONPATH", str(stranger))
    return stranger


@pytest.mark.usefixtures("stranger")
def test_whose_a_method_is() -> None:
    """Ours need not be tried out."""
    assert third_party(["snip", "sound", "random", "broken"]) == ["broken", "sound"]
    assert try_out(["snip", "random"]) == {}


@pytest.mark.usefixtures("installed")
def test_a_sound_method_is_known_by_its_file() -> None:
    """Its digest is that of the file as it is; trying it out imports it in another process."""
    assert {name: len(digest) for name, digest in try_out(["sound"]).items()} == {"sound": 64}
    assert "sound_one" not in sys.modules


@pytest.mark.parametrize("method", ["broken", "absent"])
@pytest.mark.usefixtures("installed")
def test_a_method_that_cannot_be_imported(method: str) -> None:
    """It is refused in one line."""
    with pytest.raises(
        UserError, match=f"^method {method} cannot be imported where jobs run: "
    ) as e:
        try_out(["sound", method])
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("stranger")
def test_a_method_that_only_we_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on our own path alone is not there for a job."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(
        UserError, match="method sound cannot be imported where jobs run: .*unknown"
    ):
        try_out(["sound"])


def test_a_method_that_changed(installed: Path) -> None:
    """Another file is noticed, for the methods of a job and no others; a missing one is not."""
    then = try_out(["sound"])
    assert changed(then, ["sound", "snip"]) is None
    (installed / "sound_one.py").write_text(SOUND + "# edited\n")
    assert changed(then, ["snip"]) is None
    said = "the code of method sound changed after this was submitted; submit again"
    assert changed(then, ["sound"]) == said

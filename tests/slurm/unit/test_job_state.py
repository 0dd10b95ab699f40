"""Why jobs ended, according to accounting and logs; scripts replace the commands of SLURM."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import spec_of
from fake_commands import fake_commands, submission_of

from paibench.benchmark.store.names import SlurmJob
from paibench.benchmark.store.store import Store
from paibench.slurm import job_state
from paibench.slurm.job_state import UNKNOWN_END, end_of_finished_job, end_of_running_job, is_gone

NO_AMOUNT = "18446744073709551616.00M"  # SLURM 22.05 shows this for some arrays of one job
KILLED = "7|7|FAILED|9:0||{asked}|pai-0\n7.0|7.0|CANCELLED by 0|0:9|{held}||python\n"
OVER = "slurmstepd: error: StepId=7.0 exceeded memory limit (2519920640 > 1572864000), being killed"
GROUP = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the tasks were killed."
OTHER = "slurmstepd: error: StepId=77.0 exceeded memory limit (2519920640 > 1572864000)"


@pytest.fixture
def logs(store: Store) -> Path:
    """The logs of a submission whose jobs have 1500 MB of memory."""
    return submission_of(store, [spec_of()], memory="1500M").logs


@pytest.mark.parametrize(
    ("asked", "held", "log", "memory_mb"),
    [
        ("1500M", "2985267200", "", 1500),
        (NO_AMOUNT, "2985267200", "", 1500),
        ("1500M", "500", OVER, 1500),
        (NO_AMOUNT, "500", GROUP, 1500),
        ("2G", "500", GROUP, 2048),
    ],
    ids=["sampled", "sampled, no amount", "over", "control group", "asked"],
)
def test_killed_for_its_memory(
    logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    held: str,
    log: str,
    memory_mb: int,
) -> None:
    """Accounting or the log tells that memory ran out; the job's memory is noted."""
    fake_commands(tmp_path, monkeypatch, sacct=f"echo '{KILLED.format(asked=asked, held=held)}'")
    (logs / "7_0_0_log.out").write_text(f"1 runs, 0 already done\n{log}\n")
    end = end_of_finished_job(SlurmJob(7, 0), logs.parent.parent)
    assert (end.cause, end.memory_mb) == ("memory", memory_mb)


@pytest.mark.parametrize("log", ["", OTHER], ids=["silent", "of another job"])
def test_killed(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    """Without either it was killed for an unknown reason."""
    fake_commands(tmp_path, monkeypatch, sacct=f"echo '{KILLED.format(asked='1500M', held='500')}'")
    (logs / "7_0_0_log.out").write_text(log)
    end = end_of_finished_job(SlurmJob(7, 0), logs.parent.parent)
    assert (end.cause, end.reason) == ("killed", "its job failed (exit code 9:0)")


def test_a_removed_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without log and profile, accounting alone decides."""
    fake_commands(
        tmp_path, monkeypatch, sacct=f"echo '{KILLED.format(asked=NO_AMOUNT, held='500')}'"
    )
    assert end_of_finished_job(SlurmJob(7, 0), tmp_path).cause == "killed"


def test_unavailable_accounting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is unknown."""
    fake_commands(tmp_path, monkeypatch, sacct="exit 1")
    assert end_of_finished_job(SlurmJob(7, 0), tmp_path) == UNKNOWN_END


@pytest.mark.parametrize(
    ("restart", "cause"), [(0, "preempted"), (1, "cancelled"), (2, "cancelled")], ids=str
)
def test_each_start_has_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: int, cause: str
) -> None:
    """Accounting has a row for each start of a job; the last one stands for a later start."""
    rows = [
        "7|7_0|PREEMPTED|0:0||1G|pai-0",
        "7.0|7_0.0|CANCELLED|0:15|||python",
        "7|7_0|CANCELLED by 0|0:15||1G|pai-0",
    ]
    fake_commands(tmp_path, monkeypatch, sacct="; ".join(f"echo '{row}'" for row in rows))
    assert end_of_finished_job(SlurmJob(7, restart), tmp_path).cause == cause


def test_an_id_that_another_job_had_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that lost its state assigns ids again; the first job is ignored."""
    rows = [
        "7|7_0|OUT_OF_MEMORY|0:125||1G|pai-1",
        "7.0|7_0.0|OUT_OF_MEMORY|0:125|||python",
        "7|7_0|REQUEUED|0:0||1G|pai-0",
        "7|7_0|NODE_FAIL|1:0||1G|pai-0",
    ]
    fake_commands(tmp_path, monkeypatch, sacct="; ".join(f"echo '{row}'" for row in rows))
    assert end_of_finished_job(SlurmJob(7, 0), tmp_path).cause == "requeued"
    assert end_of_finished_job(SlurmJob(7, 1), tmp_path).cause == "node"


# -- whether a job is gone -------------------------------------------------------------------------


@pytest.fixture
def cluster_name() -> Iterator[None]:
    """The name of the cluster is asked for again."""
    job_state.cluster_name.cache_clear()
    yield
    job_state.cluster_name.cache_clear()


@pytest.mark.usefixtures("cluster_name")
@pytest.mark.parametrize(
    ("squeue", "gone"),
    [
        ("echo 7", False),
        ("echo 6; echo 7", False),
        ("echo 77; echo 17", True),
        ("", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", False),
        ("exit 1", False),
        ("kill -9 $$", False),
    ],
    ids=["known", "one of an array", "others of its array", "none", "unknown", "away", "silent"]
    + ["killed"],
)
def test_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, gone: bool) -> None:
    """A job is gone if the controller answers and does not list its raw id."""
    fake_commands(tmp_path, monkeypatch, squeue=squeue, scontrol="echo 'ClusterName = here'")
    assert is_gone(SlurmJob(7, 0)) is gone
    assert is_gone(SlurmJob(7, 0, "here")) is gone
    assert " -a " in (tmp_path / "calls").read_text()


@pytest.mark.usefixtures("cluster_name")
@pytest.mark.parametrize("scontrol", ["echo 'ClusterName = here'", "exit 1"], ids=["", "silent"])
def test_a_job_of_another_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scontrol: str
) -> None:
    """This controller knows nothing about the jobs of another cluster."""
    fake_commands(tmp_path, monkeypatch, squeue="", scontrol=scontrol)
    assert not is_gone(SlurmJob(7, 0, "elsewhere"))
    assert "squeue" not in (tmp_path / "calls").read_text()


# -- why the present job must end ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "cause"),
    [
        ("JobState=COMPLETING ExitCode=0:15 Restarts=0 PreemptTime=None", "cancelled"),
        ("JobState=CANCELLED ExitCode=0:15 Restarts=0 PreemptTime=None", "cancelled"),
        ("JobState=RUNNING ExitCode=0:0 Restarts=1 PreemptTime=None", "cancelled"),
        ("JobState=RUNNING Restarts=1 PreemptTime=2026-01-01T00:00:00", "preempted"),
        ("JobState=COMPLETING Restarts=2 PreemptTime=2026-01-01T00:00:00", "preempted"),
        ("JobState=COMPLETING ExitCode=0:0 Restarts=2 PreemptTime=None", "requeued"),
        ("JobState=REQUEUED ExitCode=0:0 Restarts=2 PreemptTime=N/A", "requeued"),
        ("JobState=PENDING ExitCode=0:0 Restarts=2 PreemptTime=Unknown", "node"),
        ("JobState=NODE_FAIL ExitCode=0:0 Restarts=1 PreemptTime=None", "node"),
        ("JobState=TIMEOUT ExitCode=0:15 Restarts=1 PreemptTime=None", "limit"),
        ("JobState=SOMETHING Restarts=1", "lost"),
        ("", "lost"),
    ],
    ids=["completing", "cancelled", "signal", "preempted", "preempted, completing", "requeued"]
    + ["requeued, shown", "node", "node, shown", "time", "unknown", "nothing"],
)
def test_end_of_running_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, cause: str
) -> None:
    """The controller shows why a job, requeued once before, must end."""
    fake_commands(tmp_path, monkeypatch, scontrol=f"echo 'JobId=9 ArrayJobId=7 {shown}'")
    for part, number in (("ARRAY_JOB", "7"), ("ARRAY_TASK", "2"), ("JOB", "9")):
        monkeypatch.setenv(f"SLURM_{part}_ID", number)
    assert end_of_running_job(1).cause == cause
    assert (tmp_path / "calls").read_text() == "scontrol show job 7_2 --oneliner\n"


def test_end_of_running_job_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer the end is unknown."""
    fake_commands(tmp_path, monkeypatch, scontrol="exit 1")
    assert end_of_running_job(0) == UNKNOWN_END

"""A job on its node: interruptions, stuck runs, and when a submission is aborted."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_sweep import step_of
from factories import spec_of
from fake_commands import calls, fake_commands, small_runs, submission_of

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.progress import Progress, read_progress
from paibench.benchmark.store.store import Store
from paibench.slurm import run_job
from paibench.slurm.job_state import MIN_SECONDS, JobEnd, record_interruption
from paibench.slurm.run_job import Signals, circuit_broken, run_bundle
from paibench.slurm.submission import Submission

LONG = spec_of(recipe={"name": "lite", "epochs": 200})
SLOW_DISK = """
import os, time

_replace = os.replace


def replace(source, target):
    if str(target).endswith(".pt") and os.path.exists({mark!r}):
        open({mark!r} + ".met", "w").close()
        time.sleep(600)
    _replace(source, target)


os.replace = replace
"""


class Warned(Signals):
    """The warning comes as soon as the training has a checkpoint; from then on the disk hangs."""

    def __init__(self, checkpoints: Path, mark: Path) -> None:
        super().__init__()
        self.checkpoints, self.mark = checkpoints, mark

    def should_stop(self) -> bool:
        if not self.time_limit and any(self.checkpoints.glob("*.pt")):
            self.mark.touch()
            self.time_limit = True
        return self.time_limit


@pytest.mark.slow
def test_a_checkpoint_that_takes_too_long(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last complete checkpoint counts: the job is requeued and resumes from it."""
    mark, folder = tmp_path / "disk", tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW_DISK.format(mark=str(mark)))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(run_job, "GRACE", 2.0)
    fake_commands(tmp_path, monkeypatch, squeue="echo 7", scontrol="")
    submission = submission_of(store, [LONG], checkpoint_seconds=0.05)
    checkpoints = store.run_folder(LONG.key) / "checkpoints" / "train"

    assert run_bundle(submission.folder, 0, 0, Warned(checkpoints, mark)) == 0
    assert (tmp_path / "disk.met").exists()
    assert "scontrol requeue 7" in calls(tmp_path, "scontrol")
    assert [note["cause"] for note in store.failures(LONG.key)] == ["limit"]
    assert store.listing() == (frozenset(), frozenset())
    saved = step_of(checkpoints)
    mark.unlink()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_bundle(submission.folder, 0, 0, Warned(tmp_path / "none", mark)) == 0
    assert store.listing().done == {LONG.key}
    (last,) = (name for name in store.attempts(LONG.key) if name.startswith("j7.1"))
    assert read_progress(store.attempt_folder(LONG.key, last)).begun == saved > 0


# -- stuck runs ------------------------------------------------------------------------------------

RUN = spec_of()
LIMIT = JobEnd("limit", "its job reached its time limit")


def cause_after(store: Store, end: JobEnd, age: float = 2 * MIN_SECONDS, **progress: int) -> str:
    """Return the cause that is noted for an attempt of this age with this progress."""
    attempt = new_attempt_id()
    folder = store.attempt_folder(RUN.key, attempt)
    folder.mkdir(parents=True)
    Progress(folder, started=int(time.time() - age), **progress).save()
    record_interruption(store, RUN, attempt, end)
    (note,) = (note for note in store.failures(RUN.key) if note["attempt"] == attempt)
    return str(note["cause"])


def test_stuck(store: Store) -> None:
    """A run without progress between two time limits is stuck and is not retried."""
    assert cause_after(store, LIMIT, step=10) == "limit"
    assert not store.listing().failed
    assert cause_after(store, LIMIT, step=10) == "stuck"
    assert is_final(store, RUN.key)
    assert (store.last_failure(RUN.key) or {})["reason"].endswith("give jobs more time")


@pytest.mark.parametrize(
    "second",
    [
        {"step": 11},
        {"step": 10, "stages": 1},
        {"step": 10, "searched": 5},
        {"step": 10, "waited": 5},
    ],
    ids=["trained", "a stage", "within its search", "waited for another"],
)
def test_progress_is_not_stuck(store: Store, second: dict[str, int]) -> None:
    """A step, a stage, a part of a search, or a wait for another run's stage is progress."""
    assert cause_after(store, LIMIT, step=10) == "limit"
    assert cause_after(store, LIMIT, **second) == "limit"


def test_a_short_attempt_is_not_stuck(store: Store) -> None:
    """An attempt that began right before the limit could make no progress."""
    assert [cause_after(store, LIMIT, age=0, step=10) for _ in range(3)] == ["limit"] * 3


def test_limits_in_a_row(store: Store) -> None:
    """Another interruption between two limits starts the count again."""
    preempted = JobEnd("preempted", "its job was preempted")
    causes = [cause_after(store, end, step=10) for end in (LIMIT, preempted, LIMIT)]
    assert causes == ["limit", "preempted", "limit"]


def test_memory_is_shared(store: Store) -> None:
    """The noted memory of a run is its share of the memory of its job."""
    attempt = new_attempt_id()
    record_interruption(store, RUN, attempt, JobEnd("memory", "too much", 3000), concurrent=2)
    assert (store.last_failure(RUN.key) or {})["memory_mb"] == 1500
    assert is_final(store, RUN.key, 1500)
    assert not is_final(store, RUN.key, 1600)


# -- when a submission is aborted ------------------------------------------------------------------

RUNS = small_runs(6)


@pytest.fixture
def submission(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    """Six jobs in arrays of up to four."""
    fake_commands(tmp_path, monkeypatch, scancel="")
    return submission_of(store, RUNS, array_size=4)


def fail(store: Store, runs: list[Spec], reason: str = "no data") -> None:
    for spec in runs:
        failures.record_failure(store, spec, new_attempt_id(), "input", reason)


def test_the_same_failure_everywhere(store: Store, submission: Submission, tmp_path: Path) -> None:
    """After three failures of one kind and no success, the pending jobs are cancelled once."""
    fail(store, RUNS[:2])
    assert circuit_broken(submission, store) is None
    fail(store, RUNS[2:3])
    reason = "3 runs in a row failed: no data"
    assert circuit_broken(submission, store) == reason
    assert circuit_broken(submission, store) == submission.aborted == reason
    assert calls(tmp_path, "scancel") == [
        f"scancel --state=PENDING --name={submission.name}-{chunk}" for chunk in (0, 1)
    ]


def test_different_failures(store: Store, submission: Submission) -> None:
    """Failures for different reasons concern only their runs."""
    for number, spec in enumerate(RUNS):
        fail(store, [spec], f"reason {number}")
    assert circuit_broken(submission, store) is None


def test_after_a_success(
    store: Store, submission: Submission, record_factory: Callable[..., Record]
) -> None:
    """After a success only a store that cannot be written aborts a submission."""
    record = record_factory(**RUNS[0].canonical)
    assert record.key == RUNS[0].key
    store.publish_record(record.key, record.plain(), new_attempt_id())
    fail(store, RUNS[1:])
    assert circuit_broken(submission, store) is None
    for spec, reason in zip(
        RUNS[1:4], ["no space left", "no space left", "no room left"], strict=True
    ):
        assert circuit_broken(submission, store) is None
        failures.record_failure(store, spec, new_attempt_id(), "storage", reason)
    assert circuit_broken(submission, store) == "3 runs in a row failed: no space left"


def test_earlier_failures_do_not_count(store: Store, tmp_path: Path) -> None:
    """What failed before a submission may have been corrected since."""
    fail(store, RUNS)
    time.sleep(1.1)  # a submission's time has a resolution of one second
    submission = submission_of(store, RUNS, array_size=4)
    assert circuit_broken(submission, store) is None
    fail(store, RUNS[:3])
    assert circuit_broken(submission, store) == "3 runs in a row failed: no data"


def test_jobs_that_start_no_run(store: Store, submission: Submission) -> None:
    """The third job that can start no run aborts the submission."""
    for number in range(3):
        assert circuit_broken(submission, store) is None
        submission.record_failed_job(f"host.{number}.00000000", "no worker is ready")
    assert circuit_broken(submission, store) == "3 jobs started no run: no worker is ready"

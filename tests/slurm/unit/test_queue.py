"""The user's jobs, as squeue lists them; scripts replace the commands of SLURM."""

import os
from pathlib import Path

import pytest
from fake_commands import fake_commands, small_runs, submission_of

from paibench.benchmark.store.store import Store
from paibench.slurm import queue
from paibench.slurm.submission import Submission

RUNS = small_runs(3)


@pytest.fixture
def submission(store: Store) -> Submission:
    """Three jobs of one run each, in arrays of two."""
    return submission_of(store, RUNS)


def squeue(submission: Submission) -> str:
    """List two jobs of the submission, one of another store and one of another program."""
    name = submission.name
    lines = [
        f"12|11_1|1|RUNNING|{name}-0|None",
        f"13|13_0|0|PENDING|{name}-1|Resources",
        "14|14_0|0|PENDING|pai-00000000-0|(launch failed requeued held)",
        "15|15|N/A|RUNNING|bash|a | b",
    ]
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"


def test_jobs_and_their_runs(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of a job are found by its name and index; other jobs only count."""
    fake_commands(tmp_path, monkeypatch, squeue=squeue(submission))
    found = queue.read_queue(Store.read(submission.store))
    assert found is not None
    assert found.raw_ids == {12, 13, 14, 15}
    assert found.other_ids == {15}
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith(f"squeue -h -a -r -u {os.getuid()} ")
    assert [(job.raw_id, specs) for job, specs in found.runs()] == [
        (12, (RUNS[1],)),
        (13, (RUNS[2],)),
    ]


def test_cancel(submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the jobs that execute one of the runs are cancelled."""
    fake_commands(tmp_path, monkeypatch, squeue=squeue(submission))
    fake_commands(tmp_path, monkeypatch, scancel=f'echo "$@" >> {tmp_path}/cancelled')
    found = queue.read_queue(Store.read(submission.store))
    assert found is not None
    assert [job.id for job in queue.cancel(found, {RUNS[2].key})] == ["13_0"]
    assert (tmp_path / "cancelled").read_text() == "13_0\n"


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "JobHoldMaxRequeue", True),
        ("PENDING", "JobHeldUser", False),
        ("PENDING", "JobHeldAdmin", False),
        ("PENDING", "Resources", False),
        ("RUNNING", "launch failed requeued held", False),
    ],
)
def test_held(state: str, reason: str, held: bool) -> None:
    """Jobs that SLURM holds count, jobs that a person holds do not."""
    assert queue.QueuedJob(1, "1_0", 0, state, "a", reason).held is held


@pytest.mark.parametrize("script", ["exit 1", "sleep 0; kill $$"], ids=["error", "killed"])
def test_an_unavailable_controller(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """A missing answer is not an empty queue."""
    fake_commands(tmp_path, monkeypatch, squeue=script)
    assert queue.read_queue(store) is None

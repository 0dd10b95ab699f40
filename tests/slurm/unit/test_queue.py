"""Our jobs, as squeue tells of them; scripts stand in for the commands of SLURM."""

import os
from pathlib import Path

import pytest
from standing_in import stand_in

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.slurm import queue
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUNS = [Spec.model_validate(GIVEN | {"method": "random", "seed": seed}) for seed in range(3)]


@pytest.fixture
def campaign(tmp_path: Path) -> Submission:
    """Three jobs of one run each, in arrays of two."""
    store = Store.open(tmp_path / "store")
    bundles = [(run,) for run in RUNS]
    made = Submission.new(
        *(store, "a", bundles, 2, Profile(name="a"), None), retry=False, plugins={}
    )
    made.write()
    return made


def answer(campaign: Submission) -> str:
    """Two jobs of the campaign, one of a store elsewhere, one of something else."""
    name = campaign.name
    lines = [
        f"12|11_1|1|RUNNING|{name}-0|None",
        f"13|13_0|0|PENDING|{name}-1|Resources",
        "14|14_0|0|PENDING|pai-00000000-0|(launch failed requeued held)",
        "15|15|N/A|RUNNING|bash|a | b",
    ]
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"


def test_jobs_and_their_runs(
    campaign: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job finds its runs by name and index; other jobs only count."""
    stand_in(tmp_path, monkeypatch, squeue=answer(campaign))
    there = queue.look(Store.read(campaign.store))
    assert there is not None
    assert there.numbers == {12, 13, 14, 15}
    assert there.others == {15}
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith(f"squeue -h -a -r -u {os.getuid()} ")
    assert [(job.number, specs) for job, specs in there.runs()] == [
        (12, (RUNS[1],)),
        (13, (RUNS[2],)),
    ]


def test_cancelling_takes_whole_jobs(
    campaign: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the jobs that are to do one of the runs are cancelled."""
    stand_in(tmp_path, monkeypatch, squeue=answer(campaign))
    stand_in(tmp_path, monkeypatch, scancel=f'echo "$@" >> {tmp_path}/said')
    there = queue.look(Store.read(campaign.store))
    assert there is not None
    assert [job.shown for job in queue.cancel(there, {RUNS[2].key})] == ["13_0"]
    assert (tmp_path / "said").read_text() == "13_0\n"


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
def test_what_slurm_gave_up_is_held(state: str, reason: str, held: bool) -> None:
    """A job that somebody holds is not ours to replace."""
    assert queue.QueuedJob(1, "1_0", 0, state, "a", reason).held is held


@pytest.mark.parametrize("script", ["exit 1", "sleep 0; kill $$"], ids=["error", "killed"])
def test_a_controller_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """It is not taken for an empty queue."""
    stand_in(tmp_path, monkeypatch, squeue=script)
    assert queue.look(Store.open(tmp_path / "store")) is None

"""What became of a job, told from scripts in the place of accounting, and from logs."""

from pathlib import Path

import pytest
from standing_in import stand_in

from paibench.benchmark.naming import Job
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.campaign import Campaign
from paibench.slurm.fate import LOST, ask_later
from paibench.slurm.profile import Profile

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUN = Spec.model_validate(GIVEN | {"method": "random"})
NO_AMOUNT = "18446744073709551616.00M"  # what SLURM 22.05 says of some arrays of one job
KILLED = "7|7|FAILED|9:0||{asked}\n7.0|7.0|CANCELLED by 0|0:9|{held}|\n"
OVER = "slurmstepd: error: StepId=7.0 exceeded memory limit (2519920640 > 1572864000), being killed"
GROUP = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the tasks were killed."
OTHER = "slurmstepd: error: StepId=77.0 exceeded memory limit (2519920640 > 1572864000)"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where the logs of a campaign lie, whose jobs may hold 1500 MB."""
    profile = Profile(name="a", memory="1500M")
    store = Store.open(tmp_path / "store")
    campaign = Campaign.new(store, "tiny", [(RUN,)], 3, profile, None, retry=False, plugins={})
    campaign.write()
    return campaign.logs


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
    """A sample of accounting or a line of the log says so, and what it might have held."""
    stand_in(tmp_path, monkeypatch, sacct=f"echo '{KILLED.format(asked=asked, held=held)}'")
    (logs / "7_0_0_log.out").write_text(f"1 runs, 0 already there\n{log}\n")
    fate = ask_later(Job(7, 0), logs.parent.parent)
    assert (fate.cause, fate.memory_mb) == ("memory", memory_mb)


@pytest.mark.parametrize("log", ["", OTHER], ids=["silent", "of another job"])
def test_killed_by_somebody(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    """Without either it was killed, and nobody knows by whom."""
    stand_in(tmp_path, monkeypatch, sacct=f"echo '{KILLED.format(asked='1500M', held='500')}'")
    (logs / "7_0_0_log.out").write_text(log)
    fate = ask_later(Job(7, 0), logs.parent.parent)
    assert (fate.cause, fate.reason) == ("killed", "its job failed (exit code 9:0)")


def test_a_campaign_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without log and profile, what accounting says is all there is."""
    stand_in(tmp_path, monkeypatch, sacct=f"echo '{KILLED.format(asked=NO_AMOUNT, held='500')}'")
    assert ask_later(Job(7, 0), tmp_path).cause == "killed"


def test_accounting_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody can say."""
    stand_in(tmp_path, monkeypatch, sacct="exit 1")
    assert ask_later(Job(7, 0), tmp_path) == LOST

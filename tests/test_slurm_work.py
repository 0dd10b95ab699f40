"""The work of a job whose time is up, with scripts in the place of SLURM's commands."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from standing_in import stand_in
from sweeping import step_of

from paibench.benchmark.headway import read_headway
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm import work as works
from paibench.slurm.campaign import Campaign
from paibench.slurm.profile import Profile
from paibench.slurm.work import work

SPEC = Spec.of(
    dataset="digits",
    model="lenet-300-100",
    recipe={"name": "lite", "epochs": 200},
    method="random",
    density=0.5,
)
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


@dataclass
class Warned:
    """Time is up as soon as the training was kept; from then on the disk is slow."""

    kept: Path
    mark: Path
    to_end: bool = False
    of_time: bool = False

    def leaving(self) -> bool:
        if not self.of_time and any(self.kept.glob("*.pt")):
            self.mark.touch()
            self.of_time = True
        return self.of_time


def test_a_checkpoint_that_is_not_done_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one that was done counts: the job is requeued, and the run goes on from there."""
    mark, folder = tmp_path / "disk", tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW_DISK.format(mark=str(mark)))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(works, "GRACE", 2.0)
    stand_in(tmp_path, monkeypatch, squeue="echo 7", scontrol="")
    store = Store.open(tmp_path / "store")
    profile = Profile(name="p", checkpoint_seconds=0.05)
    given = (store, "s", [(SPEC,)], 1, profile, None)
    campaign = Campaign.new(*given, retry=False, plugins={})
    campaign.write()
    kept = store.run_folder(SPEC.key) / "checkpoints" / "train"

    assert work(campaign.folder, 0, 0, Warned(kept, mark)) == 0
    assert (tmp_path / "disk.met").exists()
    assert "scontrol requeue 7\n" in (tmp_path / "calls").read_text()
    assert [note["cause"] for note in store.failures(SPEC.key)] == ["limit"]
    assert store.listing() == (frozenset(), frozenset())
    saved = step_of(kept)
    mark.unlink()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert work(campaign.folder, 0, 0, Warned(tmp_path / "none", mark)) == 0
    assert store.listing().done == {SPEC.key}
    (last,) = (name for name in store.attempts(SPEC.key) if name.startswith("j7.1"))
    assert read_headway(store.attempt_folder(SPEC.key, last)).begun == saved > 0

"""The work of a job whose time is up, with scripts in the place of SLURM's commands."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from standing_in import stand_in
from sweeping import step_of

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.progress import Progress, read_progress
from paibench.benchmark.store.store import Store
from paibench.slurm import run_job as works
from paibench.slurm.job_state import SHORT, JobEnd, record_interruption
from paibench.slurm.profile import Profile
from paibench.slurm.run_job import circuit_broken, work
from paibench.slurm.submission import Submission

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
    campaign = Submission.new(*given, retry=False, plugins={})
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
    assert read_progress(store.attempt_folder(SPEC.key, last)).begun == saved > 0


# test_slurm_notes: What is noted of an attempt whose job ended.

SPEC_slurm_notes = Spec.of(
    dataset="digits", model="lenet-300-100", recipe="smoke", method="random", density=0.5
)
LIMIT = JobEnd("limit", "its job reached its time limit")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def ended(store: Store, fate: JobEnd, before: float = 2 * SHORT, **headway: int) -> str:
    """The cause that is noted of an attempt which began so many seconds ago and came so far."""
    attempt = new_attempt_id()
    Progress(
        store.attempt_folder(SPEC_slurm_notes.key, attempt),
        started=int(time.time() - before),
        **headway,
    ).save()
    record_interruption(store, SPEC_slurm_notes, attempt, fate)
    note = json.loads(
        (store.attempt_folder(SPEC_slurm_notes.key, attempt) / "failure.json").read_text()
    )
    return str(note["cause"])


def test_stuck(store: Store) -> None:
    """Two time limits in a row that find a run in one place are its end, until somebody asks."""
    assert ended(store, LIMIT, step=10) == "limit"
    assert not store.listing().failed
    assert ended(store, LIMIT, step=10) == "stuck"
    assert is_final(store, SPEC_slurm_notes.key)
    assert (store.last_failure(SPEC_slurm_notes.key) or {})["reason"].endswith(
        "give jobs more time"
    )


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
def test_who_gets_on_is_not_stuck(store: Store, second: dict[str, int]) -> None:
    """A step, a stage, a part of a search, or a wait for another's stage is reason to go on."""
    assert ended(store, LIMIT, step=10) == "limit"
    assert ended(store, LIMIT, **second) == "limit"


def test_who_had_no_time_is_not_stuck(store: Store) -> None:
    """An attempt that began right before the limit could not get on."""
    assert [ended(store, LIMIT, before=0, step=10) for _ in range(3)] == ["limit"] * 3


def test_something_else_in_between(store: Store) -> None:
    """Only limits in a row tell."""
    preempted = JobEnd("preempted", "its job was preempted")
    causes = [ended(store, fate, step=10) for fate in (LIMIT, preempted, LIMIT)]
    assert causes == ["limit", "preempted", "limit"]


def test_memory_is_shared(store: Store) -> None:
    """What a run might have held is its share of what its job had."""
    attempt = new_attempt_id()
    record_interruption(
        store, SPEC_slurm_notes, attempt, JobEnd("memory", "too much", 3000), at_work=2
    )
    assert (store.last_failure(SPEC_slurm_notes.key) or {})["memory_mb"] == 1500
    assert is_final(store, SPEC_slurm_notes.key, 1500)
    assert not is_final(store, SPEC_slurm_notes.key, 1600)


# test_slurm_giving_up: When the rest of a campaign is not worth trying.

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUNS = [Spec.model_validate(GIVEN | {"method": "random", "seed": seed}) for seed in range(6)]


@pytest.fixture
def store_slurm_giving_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on a machine where scancel notes what it is told."""
    (tmp_path / "scancel").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/cancelled\n')
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    return Store.open(tmp_path / "store")


def campaign(store_slurm_giving_up: Store) -> Submission:
    jobs = [(run,) for run in RUNS]
    made = Submission.new(
        store_slurm_giving_up, "s", jobs, 4, Profile(name="p"), None, retry=False, plugins={}
    )
    made.write()
    return made


def fail(store_slurm_giving_up: Store, runs: list[Spec], reason: str = "no data") -> None:
    for spec in runs:
        failures.record_failure(
            store_slurm_giving_up,
            spec,
            new_attempt_id(),
            "input",
            reason,
        )


def test_all_alike(store_slurm_giving_up: Store, tmp_path: Path) -> None:
    """Three failures of one kind and no success: the jobs that wait are cancelled, once."""
    made = campaign(store_slurm_giving_up)
    fail(store_slurm_giving_up, RUNS[:2])
    assert circuit_broken(made, store_slurm_giving_up) is None
    fail(store_slurm_giving_up, RUNS[2:3])
    reason = "3 runs in a row failed: no data"
    assert circuit_broken(made, store_slurm_giving_up) == reason
    assert circuit_broken(made, store_slurm_giving_up) == made.stopped == reason
    cancelled = (tmp_path / "cancelled").read_text().splitlines()
    assert cancelled == [f"--state=PENDING --name={made.name}-{chunk}" for chunk in (0, 1)]


def test_each_its_own(store_slurm_giving_up: Store) -> None:
    """Failures for different reasons are the runs' own matter."""
    made = campaign(store_slurm_giving_up)
    for number, spec in enumerate(RUNS):
        fail(store_slurm_giving_up, [spec], f"reason {number}")
    assert circuit_broken(made, store_slurm_giving_up) is None


def test_after_a_success(
    store_slurm_giving_up: Store, record_factory: Callable[..., Record]
) -> None:
    """Then other runs may fail as they like, but a store that takes no more stops them all."""
    made = campaign(store_slurm_giving_up)
    done = record_factory(**RUNS[0].canonical)
    assert done.key == RUNS[0].key
    store_slurm_giving_up.publish_record(done.key, done.plain(), new_attempt_id())
    fail(store_slurm_giving_up, RUNS[1:])
    assert circuit_broken(made, store_slurm_giving_up) is None
    for spec in RUNS[1:3]:
        failures.record_failure(
            store_slurm_giving_up,
            spec,
            new_attempt_id(),
            "storage",
            "no space left",
        )
        assert circuit_broken(made, store_slurm_giving_up) is None
    failures.record_failure(
        store_slurm_giving_up,
        RUNS[3],
        new_attempt_id(),
        "storage",
        "no room left",
    )
    assert circuit_broken(made, store_slurm_giving_up) == "3 runs in a row failed: no space left"


def test_what_failed_before_does_not_count(store_slurm_giving_up: Store) -> None:
    """What was wrong may have been mended: a new campaign is judged by its own runs alone."""
    fail(store_slurm_giving_up, RUNS)
    time.sleep(1.1)  # the time of a campaign is told in seconds
    made = campaign(store_slurm_giving_up)
    assert circuit_broken(made, store_slurm_giving_up) is None
    fail(store_slurm_giving_up, RUNS[:3])
    assert circuit_broken(made, store_slurm_giving_up) == "3 runs in a row failed: no data"


def test_jobs_that_try_nothing(store_slurm_giving_up: Store) -> None:
    """Where no job comes to try its runs, the third one is the last."""
    made = campaign(store_slurm_giving_up)
    for number in range(3):
        assert circuit_broken(made, store_slurm_giving_up) is None
        made.note_broken(f"host.{number}.00000000", "no worker became ready")
    assert (
        circuit_broken(made, store_slurm_giving_up)
        == "3 jobs tried none of theirs: no worker became ready"
    )

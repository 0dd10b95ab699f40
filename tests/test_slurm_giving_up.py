"""When the rest of a campaign is not worth trying."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paibench.benchmark import failures
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.campaign import Campaign
from paibench.slurm.giving_up import given_up
from paibench.slurm.profile import Profile

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUNS = [Spec.model_validate(GIVEN | {"method": "random", "seed": seed}) for seed in range(6)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on a machine where scancel notes what it is told."""
    (tmp_path / "scancel").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/cancelled\n')
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    return Store.open(tmp_path / "store")


def campaign(store: Store) -> Campaign:
    jobs = [(run,) for run in RUNS]
    made = Campaign.new(store, "s", jobs, 4, Profile(name="p"), None, retry=False, plugins={})
    made.write()
    return made


def fail(store: Store, runs: list[Spec], reason: str = "no data") -> None:
    for spec in runs:
        failures.note(store, spec, store.new_attempt(spec.key), "input", reason)


def test_all_alike(store: Store, tmp_path: Path) -> None:
    """Three failures of one kind and no success: the jobs that wait are cancelled, once."""
    made = campaign(store)
    fail(store, RUNS[:2])
    assert given_up(made, store) is None
    fail(store, RUNS[2:3])
    reason = "3 runs in a row failed: no data"
    assert given_up(made, store) == reason
    assert given_up(made, store) == made.stopped == reason
    cancelled = (tmp_path / "cancelled").read_text().splitlines()
    assert cancelled == [f"--state=PENDING --name={made.name}-{chunk}" for chunk in (0, 1)]


def test_each_its_own(store: Store) -> None:
    """Failures for different reasons are the runs' own matter."""
    made = campaign(store)
    for number, spec in enumerate(RUNS):
        fail(store, [spec], f"reason {number}")
    assert given_up(made, store) is None


def test_after_a_success(store: Store, record_factory: Callable[..., Record]) -> None:
    """Then other runs may fail as they like, but a store that takes no more stops them all."""
    made = campaign(store)
    done = record_factory(**RUNS[0].canonical)
    assert done.key == RUNS[0].key
    store.publish_record(done.key, done.plain(), store.new_attempt(done.key))
    fail(store, RUNS[1:])
    assert given_up(made, store) is None
    for spec in RUNS[1:3]:
        failures.note(store, spec, store.new_attempt(spec.key), "storage", "no space left")
        assert given_up(made, store) is None
    failures.note(store, RUNS[3], store.new_attempt(RUNS[3].key), "storage", "no room left")
    assert given_up(made, store) == "3 runs in a row failed: no space left"


def test_what_failed_before_does_not_count(store: Store) -> None:
    """What was wrong may have been mended: a new campaign is judged by its own runs alone."""
    fail(store, RUNS)
    time.sleep(1.1)  # the time of a campaign is told in seconds
    made = campaign(store)
    assert given_up(made, store) is None
    fail(store, RUNS[:3])
    assert given_up(made, store) == "3 runs in a row failed: no data"


def test_jobs_that_try_nothing(store: Store) -> None:
    """Where no job comes to try its runs, the third one is the last."""
    made = campaign(store)
    for number in range(3):
        assert given_up(made, store) is None
        made.note_broken(f"host.{number}.00000000", "no worker came to be ready")
    assert given_up(made, store) == "3 jobs tried none of theirs: no worker came to be ready"

"""The state of runs, from the store alone."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import spec_of

from paibench.benchmark.record import Record
from paibench.benchmark.store.failures import record_failure
from paibench.benchmark.store.lease import LEASE_SECONDS
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.status import sweep_status

ATTEMPT = "j17.2.node1.4711.0123abcd"


DONE, RUNNING, BROKEN, KILLED, CUT, ASKED = (
    spec_of("snip", recipe="lite", seed=seed) for seed in range(6)
)
ALL = [spec.key for spec in (DONE, RUNNING, BROKEN, KILLED, CUT, ASKED)]


@pytest.fixture
def store(tmp_path: Path, record_factory: Callable[..., Record]) -> Store:
    """One run of each kind."""
    store = Store.open(tmp_path / "store")
    done: dict[str, Any] = record_factory(seed=0).plain()
    store.publish_record(DONE.key, done, new_attempt_id())
    assert store.acquire_lease(RUNNING.key, ATTEMPT)
    store.attempt_folder(RUNNING.key, ATTEMPT).mkdir(parents=True)
    Progress(store.attempt_folder(RUNNING.key, ATTEMPT), stages=3, step=50, steps=200).save()
    record_failure(store, BROKEN, new_attempt_id(), "plugin", "it raised")
    record_failure(store, KILLED, new_attempt_id(), "killed", "by somebody")
    record_failure(store, CUT, new_attempt_id(), "preempted", "its job was preempted")
    return store


def test_each_run_is_one_of_four(store: Store) -> None:
    """A done run has a record, a running one a live lease, a failed one a failure file."""
    found = sweep_status(store, ALL)
    assert found.done == {DONE.key}
    assert found.running.keys() == {RUNNING.key}
    assert found.failed.keys() == {BROKEN.key, KILLED.key}
    assert found.missing == {CUT.key, ASKED.key}


def test_only_what_was_asked_for(store: Store) -> None:
    """Other runs of the store are left out."""
    found = sweep_status(store, [ASKED.key])
    assert found.missing == {ASKED.key}
    assert not (found.done or found.running or found.failed)


def test_a_running_one(store: Store) -> None:
    """A running run has its attempt, its host, its start and its progress."""
    run = sweep_status(store, ALL).running[RUNNING.key]
    assert (run.attempt, run.host) == (ATTEMPT, "node1")
    assert abs(run.since - time.time()) < 60
    assert str(run.progress) == "25 % of its training"


def test_a_failed_one(store: Store) -> None:
    """A failed run has its cause and reason, whether it is final, and the path of its log."""
    failed = sweep_status(store, ALL).failed
    assert [(failed[spec.key].cause, failed[spec.key].final) for spec in (BROKEN, KILLED)] == [
        ("plugin", True),
        ("killed", False),
    ]
    assert failed[KILLED.key].reason == "by somebody"
    [attempt] = store.attempts(KILLED.key)
    assert failed[KILLED.key].log == store.attempt_folder(KILLED.key, attempt) / "log.txt"


def test_an_expired_lease_is_not_running(store: Store) -> None:
    """A run whose lease was not renewed in time is missing."""
    path = store.run_folder(RUNNING.key) / "claim"
    before = time.time() - LEASE_SECONDS - 10
    os.utime(path, (before, before))
    assert sweep_status(store, ALL).missing == {RUNNING.key, CUT.key, ASKED.key}


def test_a_damaged_lease(store: Store) -> None:
    """A run with a damaged lease is running, and its owner is unknown."""
    path = store.run_folder(RUNNING.key) / "claim"
    path.unlink()
    path.write_bytes(b"")
    run = sweep_status(store, ALL).running[RUNNING.key]
    assert (run.host, str(run.progress)) == ("?", "in its search")


def test_nothing_is_changed(store: Store) -> None:
    """Reading the status creates no file."""
    before = sorted(store.root.rglob("*"))
    sweep_status(store, ALL)
    assert sorted(store.root.rglob("*")) == before

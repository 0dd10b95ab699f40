"""A plan: which runs are done, missing or failed for good, what they share and may take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.estimate import RECORD_BYTES
from paibench.benchmark.failures import note
from paibench.benchmark.plan import plan
from paibench.benchmark.record import Record
from paibench.benchmark.store import Store
from paibench.benchmark.sweep import Sweep, expand

PLAIN: dict[str, Any] = {"dataset": "digits", "model": "lenet-300-100", "recipe": "lite"}
RecordFactory = Callable[..., Record]


def sweep(**axes: Any) -> Sweep:
    return expand({"product": PLAIN | {"method": "snip", "density": 0.1} | axes})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def publish(store: Store, *records: Record) -> None:
    for record in records:
        store.publish_record(record.key, record.plain(), store.new_attempt(record.key))


def test_without_a_store_everything_is_missing() -> None:
    """Nothing is done yet, and what it takes is not known."""
    asked = sweep(seed=[0, 1])
    work = plan(asked, None)
    assert (work.done, work.missing, work.failed) == ((), asked.specs, ())
    assert (work.seconds, work.bytes) == (None, None)


def test_done_failed_and_missing(store: Store, record_factory: RecordFactory) -> None:
    """Every run is exactly one of the three; a failure that may pass is missing."""
    asked = sweep(seed=[0, 1, 2, 3])
    done, broken, killed, fresh = asked.specs
    publish(store, record_factory(seed=0))
    note(store, broken, store.new_attempt(broken.key), "error", "it raised")
    note(store, killed, store.new_attempt(killed.key), "killed", "signal 9")
    work = plan(asked, store)
    assert (work.done, work.failed, work.missing) == ((done,), (broken,), (killed, fresh))
    assert plan(asked, store, retry=True).missing == (broken, killed, fresh)


def test_runs_of_other_sweeps_do_not_count(store: Store, record_factory: RecordFactory) -> None:
    """A store may hold the runs of many sweeps."""
    publish(store, record_factory(seed=7))
    assert plan(sweep(), store).done == ()


@pytest.mark.parametrize(
    ("axes", "shared"),
    [
        ({"method": "imp", "density": [0.5, 0.2], "seed": [0, 1]}, 4),
        ({"method": "imp", "seed": [0, 1]}, 0),
        ({"method": "snip", "density": [0.5, 0.2]}, 0),
        ({"method": ["imp", "snip"], "density": [0.5, 0.2]}, 2),
    ],
    ids=["densities", "seeds", "no stages", "mixed"],
)
def test_stages_are_shared_across_densities(axes: dict[str, Any], shared: int) -> None:
    """Searches that keep stages have them in common where only the density differs."""
    assert plan(sweep(**axes), None).shared == shared


def test_an_estimate_is_the_sum_over_what_is_missing(
    store: Store, record_factory: RecordFactory
) -> None:
    """Each missing run counts what runs like it took; nothing missing takes no time at all."""
    snip, random = (
        record_factory(seed=0, train_seconds=6.0),
        record_factory(seed=0, method="random", train_seconds=105.0),
    )
    publish(store, snip, random)
    work = plan(sweep(method=["snip", "random"], seed=[0, 1, 2]), store)
    assert work.seconds == 2 * (6 + 105)
    assert work.bytes == 4 * (50_200 // 8 + RECORD_BYTES)
    assert plan(sweep(recipe=["lite", "smoke"], seed=1), store).seconds is None
    assert plan(sweep(), store).seconds == 0


def test_a_broken_record_does_not_stop_a_plan(store: Store, record_factory: RecordFactory) -> None:
    """A record that cannot be trusted is no source of an estimate."""
    record = record_factory(seed=0, search_seconds=1.0)
    publish(store, record)
    path = store.record_path(record.key)
    path.chmod(0o644)
    path.write_bytes(b"{")
    work = plan(sweep(seed=[0, 1]), store)
    assert (len(work.done), work.seconds) == (1, None)


def test_a_checked_plan_reads_every_record(store: Store, record_factory: RecordFactory) -> None:
    """Before work starts, runs whose record cannot be trusted are found to be missing."""
    sound, broken = record_factory(seed=0), record_factory(seed=1)
    publish(store, sound, broken)
    path = store.record_path(broken.key)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9])
    asked = sweep(seed=[0, 1])
    assert plan(asked, store).done == asked.specs
    work = plan(asked, store, check=True)
    assert (work.done, work.missing) == (asked.specs[:1], asked.specs[1:])

"""How long a run may take, by the records of runs like it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark import estimate
from paibench.benchmark.estimate import RECORD_BYTES, Estimates
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

RecordFactory = Callable[..., Record]
COSTS = {"search_seconds": 1.0, "train_seconds": 5.0, "evaluation_seconds": None}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def publish(store: Store, *records: Record) -> None:
    for record in records:
        store.publish_record(record.key, record.plain(), store.new_attempt(record.key))


def spec_of(**fields: Any) -> Spec:
    plain = {"dataset": "digits", "model": "lenet-300-100", "recipe": "lite", "method": "snip"}
    return Spec.of(**(plain | {"density": 0.1, "seed": 9} | fields))


def test_nothing_is_known_of_nothing(store: Store) -> None:
    """Without a store, or with an empty one, there is no estimate."""
    for found in (Estimates.of(None), Estimates.of(store)):
        assert found.records == 0
        assert (found.seconds(spec_of()), found.bytes(spec_of())) == (None, None)


def test_seconds_are_the_mean_of_like_runs(store: Store, record_factory: RecordFactory) -> None:
    """Search, training and evaluation, of the same method where it has records, else of any."""
    publish(
        store,
        record_factory(seed=0, **COSTS),
        record_factory(seed=1, **COSTS | {"search_seconds": 3.0}),
        record_factory(seed=0, method="random", **COSTS | {"search_seconds": 100.0}),
    )
    found = Estimates.of(store)
    assert found.records == 3
    assert found.seconds(spec_of()) == (6 + 8) / 2
    assert found.seconds(spec_of(method="random", density=0.7)) == 105
    assert found.seconds(spec_of(method="grasp")) == (6 + 8 + 105) / 3


@pytest.mark.parametrize(
    "other",
    [{"dataset": "mnist"}, {"model": "lenet-5-caffe"}, {"recipe": "smoke"}],
    ids=lambda fields: next(iter(fields)),
)
def test_other_work_says_nothing(
    store: Store, record_factory: RecordFactory, other: dict[str, str]
) -> None:
    """Runs on other data, of another model or recipe are no measure."""
    publish(store, record_factory(seed=0, **COSTS))
    found = Estimates.of(store)
    assert found.seconds(spec_of()) == 6
    assert (found.seconds(spec_of(**other)), found.bytes(spec_of(**other))) == (None, None)


def test_bytes_are_those_of_mask_and_record(store: Store, record_factory: RecordFactory) -> None:
    """A bit for each prunable weight, and room for a record with its curve."""
    publish(store, record_factory(seed=0))
    assert Estimates.of(store).bytes(spec_of(method="random")) == 50_200 // 8 + RECORD_BYTES


def test_a_broken_record_is_no_source(store: Store, record_factory: RecordFactory) -> None:
    """What cannot be trusted is left out, and stops nothing."""
    sound, broken = record_factory(seed=0, **COSTS), record_factory(seed=1, **COSTS)
    publish(store, sound, broken)
    path = store.record_path(broken.key)
    path.chmod(0o644)
    path.write_bytes(b"{")
    found = Estimates.of(store)
    assert (found.records, found.seconds(spec_of())) == (1, 6)


def test_a_large_store_is_not_read_to_the_end(
    store: Store, record_factory: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many records only so many are read, the same ones each time."""
    monkeypatch.setattr(estimate, "SAMPLE", 3)
    records = [record_factory(seed=n, **COSTS | {"search_seconds": float(n)}) for n in range(6)]
    publish(store, *records)
    first = sorted(records, key=lambda record: record.key)[:3]
    found = Estimates.of(store)
    assert found.records == 3
    seconds = [(record.search_seconds or 0) + 5 for record in first]
    assert found.seconds(spec_of()) == sum(seconds) / 3

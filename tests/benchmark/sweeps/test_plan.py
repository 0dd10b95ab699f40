"""A plan: which runs are done, missing or failed, what they share, and what they may cost."""

from collections.abc import Callable
from typing import Any

import factories
import pytest
from factories import publish

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.failures import record_failure
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps import plan as plans
from paibench.benchmark.sweeps.plan import RECORD_BYTES, CostEstimate, plan, stage_group
from paibench.benchmark.sweeps.sweep import Sweep, expand

PLAIN: dict[str, Any] = {"dataset": "digits", "model": "lenet-300-100", "recipe": "lite"}
RecordFactory = Callable[..., Record]


def sweep(**axes: Any) -> Sweep:
    return expand({"product": PLAIN | {"method": "snip", "density": 0.1} | axes})


def test_without_a_store_everything_is_missing() -> None:
    """Every run is missing, and there are no estimates."""
    asked = sweep(seed=[0, 1])
    work = plan(asked, None)
    assert (work.done, work.missing, work.failed) == ((), asked.specs, ())
    assert (work.seconds, work.bytes) == (None, None)


def test_done_failed_and_missing(store: Store, record_factory: RecordFactory) -> None:
    """Every run is exactly one of the three; a failed run that is tried again is missing."""
    asked = sweep(seed=[0, 1, 2, 3])
    done, broken, killed, fresh = asked.specs
    publish(store, record_factory(seed=0))
    record_failure(store, broken, new_attempt_id(), "error", "it raised")
    record_failure(store, killed, new_attempt_id(), "killed", "signal 9")
    work = plan(asked, store)
    assert (work.done, work.failed, work.missing) == ((done,), (broken,), (killed, fresh))
    assert plan(asked, store, retry=True).missing == (broken, killed, fresh)


def test_runs_of_other_sweeps_do_not_count(store: Store, record_factory: RecordFactory) -> None:
    """A store may contain the runs of many sweeps."""
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
    """Searches with cached stages share them if only the density differs."""
    assert plan(sweep(**axes), None).shared == shared


def test_an_estimate_is_the_sum_over_what_is_missing(
    store: Store, record_factory: RecordFactory
) -> None:
    """Each missing run counts as much as similar runs took; if none is missing, the sum is 0."""
    snip = record_factory(seed=0, train_seconds=6.0)
    random = record_factory(seed=0, method="random", train_seconds=105.0)
    publish(store, snip, random)
    work = plan(sweep(method=["snip", "random"], seed=[0, 1, 2]), store)
    assert work.seconds == 2 * (6 + 105)
    assert work.bytes == 4 * (50_200 // 8 + RECORD_BYTES)
    assert plan(sweep(recipe=["lite", "smoke"], seed=1), store).seconds is None
    assert plan(sweep(), store).seconds == 0


def test_a_damaged_record_does_not_stop_a_plan(store: Store, record_factory: RecordFactory) -> None:
    """A record that cannot be trusted does not enter the estimates."""
    record = record_factory(seed=0, search_seconds=1.0)
    publish(store, record)
    path = store.record_path(record.key)
    path.chmod(0o644)
    path.write_bytes(b"{")
    work = plan(sweep(seed=[0, 1]), store)
    assert (len(work.done), work.seconds) == (1, None)


def test_a_checked_plan_reads_every_record(store: Store, record_factory: RecordFactory) -> None:
    """With `check`, runs whose record cannot be trusted are missing."""
    sound, broken = record_factory(seed=0), record_factory(seed=1)
    publish(store, sound, broken)
    path = store.record_path(broken.key)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9])
    asked = sweep(seed=[0, 1])
    assert plan(asked, store).done == asked.specs
    work = plan(asked, store, check=True)
    assert (work.done, work.missing) == (asked.specs[:1], asked.specs[1:])


# -- estimates -----------------------------------------------------------------------------------

COSTS = {"search_seconds": 1.0, "train_seconds": 5.0, "evaluation_seconds": None}


def spec_of(**fields: Any) -> Spec:
    return factories.spec_of(**{"method": "snip", "recipe": "lite", "seed": 9} | fields)


def test_without_records_there_is_no_estimate(store: Store) -> None:
    """Without a store, or with an empty one, there is no estimate."""
    for estimate in (CostEstimate.of(None), CostEstimate.of(store)):
        assert estimate.records == 0
        assert (estimate.seconds(spec_of()), estimate.bytes(spec_of())) == (None, None)


def test_seconds_are_the_mean_of_similar_runs(store: Store, record_factory: RecordFactory) -> None:
    """The mean covers search, training and evaluation, of the same method if it has records."""
    publish(
        store,
        record_factory(seed=0, **COSTS),
        record_factory(seed=1, **COSTS | {"search_seconds": 3.0}),
        record_factory(seed=0, method="random", **COSTS | {"search_seconds": 100.0}),
    )
    estimate = CostEstimate.of(store)
    assert estimate.records == 3
    assert estimate.seconds(spec_of()) == (6 + 8) / 2
    assert estimate.seconds(spec_of(method="random", density=0.7)) == 105
    assert estimate.seconds(spec_of(method="grasp")) == (6 + 8 + 105) / 3


@pytest.mark.parametrize(
    "other",
    [{"dataset": "mnist"}, {"model": "lenet-5-caffe"}, {"recipe": "smoke"}],
    ids=lambda fields: next(iter(fields)),
)
def test_other_workloads_do_not_count(
    store: Store, record_factory: RecordFactory, other: dict[str, str]
) -> None:
    """Runs with other data, another model or another recipe do not enter the estimate."""
    publish(store, record_factory(seed=0, **COSTS))
    estimate = CostEstimate.of(store)
    assert estimate.seconds(spec_of()) == 6
    assert (estimate.seconds(spec_of(**other)), estimate.bytes(spec_of(**other))) == (None, None)


def test_bytes_are_the_sum_of_mask_and_record(store: Store, record_factory: RecordFactory) -> None:
    """The estimate is one bit per prunable weight and a fixed size for record and curve."""
    publish(store, record_factory(seed=0))
    assert CostEstimate.of(store).bytes(spec_of(method="random")) == 50_200 // 8 + RECORD_BYTES


def test_a_damaged_record_is_left_out(store: Store, record_factory: RecordFactory) -> None:
    """A record that cannot be trusted is left out, and raises nothing."""
    sound, broken = record_factory(seed=0, **COSTS), record_factory(seed=1, **COSTS)
    publish(store, sound, broken)
    path = store.record_path(broken.key)
    path.chmod(0o644)
    path.write_bytes(b"{")
    estimate = CostEstimate.of(store)
    assert (estimate.records, estimate.seconds(spec_of())) == (1, 6)


def test_a_large_store_is_not_read_to_the_end(
    store: Store, record_factory: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a fixed number of records is read, the same ones each time."""
    monkeypatch.setattr(plans, "SAMPLE", 3)
    records = [record_factory(seed=n, **COSTS | {"search_seconds": float(n)}) for n in range(6)]
    publish(store, *records)
    first = sorted(records, key=lambda record: record.key)[:3]
    estimate = CostEstimate.of(store)
    assert estimate.records == 3
    seconds = [(record.search_seconds or 0) + 5 for record in first]
    assert estimate.seconds(spec_of()) == sum(seconds) / 3


# -- groups of runs that would wait for each other's stages ----------------------------------------

IMP = factories.spec_of("imp", density=0.5).canonical


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"density": 0.1}, True),
        ({"control": "shuffle"}, True),
        ({"seed": 1}, False),
        ({"method": {"name": "imp", "rate": 0.5}}, False),
        ({"method": "zhou"}, False),
        ({"model": {"name": "lenet-300-100", "width": 0.5}}, False),
    ],
    ids=str,
)
def test_a_stage_group_is_one_search_at_several_densities(
    change: dict[str, Any], shared: bool
) -> None:
    """Runs belong to one group if they differ in density or control only."""
    assert (stage_group(Spec.of(**IMP)) == stage_group(Spec.of(**(IMP | change)))) is shared


def test_a_method_without_stages_has_no_group() -> None:
    """Runs of a method without cached stages never wait for one another."""
    assert stage_group(Spec.of(**(IMP | {"method": "snip"}))) is None

"""Several stores as one frame: each run once, the best that is known of it, conflicts said."""

from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.commit import publish
from paibench.benchmark.record import VOLATILE, Record
from paibench.benchmark.seal import seal
from paibench.benchmark.store import Store
from paibench.leaderboard.frame import load
from paibench.leaderboard.holdings import COMPARED
from paibench.methods.registry import UserError

RecordFactory = Callable[..., Record]


def store(root: Path, *records: Record, asked: Iterable[Record] = ()) -> Path:
    """A store with these records, and a sweep that asks for some."""
    made = Store.open(root)
    for record in records:
        made.publish_record(record.key, record.plain(), made.new_attempt(record.key), VOLATILE)
    plain = {"name": "sweep", "runs": {record.key: record.spec for record in asked}}
    publish(made.root / "sweeps" / f"{'0' * 40}.json", seal(plain))
    return made.root


def failed(root: Path, record: Record) -> Path:
    """A store in which this run failed."""
    made = Store.open(root)
    note = {"spec": record.spec, "reason": "out of memory"}
    made.note_failure(record.key, made.new_attempt(record.key), note)
    return made.root


def the_same(roots: Iterable[Path]) -> pd.DataFrame:
    """The frame of these stores, found equal in whatever order they are named."""
    first, *others = (load(*order) for order in permutations(roots))
    for other in others:
        pd.testing.assert_frame_equal(first.runs, other.runs)
        assert first.problems == other.problems
    return first.runs


def test_runs_of_all_stores_are_rows(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Those of one and of the other, in the order of their keys, no matter who has which."""
    records = [record_factory(seed=seed) for seed in range(6)]
    parts = [store(tmp_path / name, *records[n::3]) for n, name in enumerate("abc")]
    runs = the_same(parts)
    assert list(runs["key"]) == sorted(record.key for record in records)
    pd.testing.assert_frame_equal(runs, load(store(tmp_path / "all", *records)).runs)


def test_the_same_record_is_one_row(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Times, memory, machine and the version of the form are no difference."""
    there = record_factory(
        schema=2, search_seconds=9.0, peak_memory_mb=1.0, environment={"host": "elsewhere"}
    )
    here = record_factory(schema=1, search_seconds=1.0)
    runs = the_same([store(tmp_path / "b", there), store(tmp_path / "a", here)])
    assert list(runs["search_seconds"]) == [1.0]
    assert runs["conflict"].isna().all()


def test_records_that_differ_are_one_row_with_their_fields(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """The first store's in the order of paths stands; three stores tell of all differences."""
    first, second, third = (
        record_factory(accuracy=0.9),
        record_factory(accuracy=0.8),
        record_factory(accuracy=0.9, loss=1.0),
    )
    parts = [
        store(tmp_path / name, each)
        for name, each in zip("cab", [third, first, second], strict=True)
    ]
    runs = the_same(parts)
    assert list(runs["accuracy"]) == [0.9]
    assert list(runs["conflict"]) == ["accuracy, loss"]


def test_what_one_store_found_different_stays_said(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """A conflict within a store is one of the merged row too."""
    again = store(tmp_path / "b", record_factory(accuracy=0.9), record_factory(accuracy=0.8))
    runs = the_same([store(tmp_path / "a", record_factory(accuracy=0.9)), again])
    assert list(runs["conflict"]) == ["accuracy"]


@pytest.mark.parametrize("name", ["a", "z"], ids=["before", "after"])
def test_a_result_stands_before_what_has_none(
    tmp_path: Path, record_factory: RecordFactory, name: str
) -> None:
    """A run that failed, is missing or was skipped elsewhere is done; none of it is a conflict."""
    runs = [record_factory(seed=seed) for seed in range(3)]
    skipped = record_factory(seed=2, status="skipped", reason="too sparse", accuracy=None)
    parts = [
        store(tmp_path / name, *runs),
        failed(tmp_path / "m", runs[0]),
        store(tmp_path / "n", skipped, asked=[runs[1]]),
    ]
    found = the_same(parts)
    assert list(found["status"]) == ["done"] * 3
    assert found["conflict"].isna().all() and found["reason"].isna().all()


def test_a_failure_stands_before_a_missing_run(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """What was tried says more than what was asked for; both come after the records."""
    runs = [record_factory(seed=seed) for seed in range(3)]
    parts = [store(tmp_path / "a", runs[0], asked=runs), failed(tmp_path / "b", runs[1])]
    found = the_same(parts)
    assert list(found["status"]) == ["done", "failed", "missing"]
    assert list(found["seed"]) == [0, 1, 2]


def test_a_broken_record_is_a_problem_and_another_store_has_the_run(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """Its file is named, and the run is done all the same."""
    record = record_factory()
    broken = store(tmp_path / "a", record, asked=[record])
    Store.read(broken).record_path(record.key).unlink()
    Store.read(broken).record_path(record.key).write_text("{")
    parts = [broken, store(tmp_path / "b", record)]
    assert list(the_same(parts)["status"]) == ["done"]
    assert [problem.path.stem for problem in load(*parts).problems] == [record.key]


def test_a_store_that_is_named_twice_counts_once(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """By another spelling or by a link too."""
    root = store(tmp_path / "a", record_factory())
    Store.read(root).record_path("ab" * 20).write_text("{")
    (tmp_path / "link").symlink_to(root)
    found = load(root, root, tmp_path / "a" / ".." / "a", tmp_path / "link")
    assert len(found.runs) == len(found.problems) == 1


def test_each_has_to_be_a_store(tmp_path: Path, record_factory: RecordFactory) -> None:
    """One that is none is the user's error, not an empty one."""
    with pytest.raises(UserError, match="no store"):
        load(store(tmp_path / "a", record_factory()), tmp_path / "nowhere")


def test_every_stable_field_is_compared(record_factory: RecordFactory) -> None:
    """All that another run has to give again, but for what the key says and the form."""
    stable: dict[str, Any] = record_factory().stable()
    assert {name for _, name in COMPARED} == stable.keys() - {"key", "spec", "schema"}

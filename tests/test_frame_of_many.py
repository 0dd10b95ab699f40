"""A store that two processes read gives the frame that one gives."""

import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.store import Store
from paibench.leaderboard import recorded
from paibench.leaderboard.frame import Frame, load


@pytest.fixture
def root(
    record_factory: Callable[..., Record], store_factory: Callable[[Iterable[Record]], Path]
) -> Path:
    """A store with runs in both halves: sound, repeated with another result, skipped, broken."""
    records = [record_factory(seed=seed) for seed in range(24)]
    skipped = record_factory(seed=30, status="skipped", reason="too sparse", accuracy=None)
    again = [record_factory(seed=seed, accuracy=0.5) for seed in range(12)]
    root = store_factory([*records, skipped, *again])
    for number, record in enumerate(sorted(records, key=lambda record: record.key)):
        if number % 8 == 0:
            path = Store.read(root).record_path(record.key)
            path.unlink()
            path.write_text("{")
    return root


def by(processes: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> Frame:
    """The frame of a store as so many processes read it."""
    monkeypatch.setattr(recorded, "_large", lambda store: processes == 2)
    return load(root)


def test_two_processes_read_what_one_reads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, their order, conflicts and problems are the same."""
    one, two = (by(number, root, monkeypatch) for number in (1, 2))
    pd.testing.assert_frame_equal(one.runs, two.runs)
    assert one.problems == two.problems
    halves = {problem.path.parent.name < "80" for problem in two.problems}
    assert halves == {True, False}
    assert two.runs["conflict"].notna().any()


def test_where_the_second_process_fails_the_first_reads_all(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a store is never taken for the whole."""
    one = by(1, root, monkeypatch)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pd.testing.assert_frame_equal(one.runs, by(2, root, monkeypatch).runs)


def test_a_program_that_is_not_there_is_no_reason_to_fail(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no second process can be started, one reads all."""
    one = by(1, root, monkeypatch)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pd.testing.assert_frame_equal(one.runs, by(2, root, monkeypatch).runs)


def test_small_stores_are_read_by_one_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one costs half a second to start."""
    store = Store.read(root)
    assert not recorded._large(store)
    monkeypatch.setattr(recorded, "_MANY", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    assert recorded._large(store)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert not recorded._large(store)


def test_the_collector_is_as_it_was(root: Path) -> None:
    """Also where there is no store."""
    load(root)
    assert gc.isenabled()
    with pytest.raises(ValueError):
        load(root / "runs")
    assert gc.isenabled()

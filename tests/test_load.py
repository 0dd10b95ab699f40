"""`paibench.leaderboard.load` gives the frame of a store, and costs nothing before it is called."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard import load
from paibench.leaderboard.columns import COLUMNS
from paibench.methods.registry import UserError

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]


def test_runs_of_a_store(record_factory: RecordFactory, store_factory: StoreFactory) -> None:
    """A row per run with the documented columns, from a path or a text."""
    root = store_factory([record_factory(seed=seed) for seed in (0, 1)])
    runs = load(root)
    assert list(runs.columns) == list(COLUMNS) and len(runs) == 2
    assert runs.equals(load(str(root)))


def test_what_cannot_be_read_is_said(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """A file that is left out is a warning, never silence."""
    root = store_factory([record_factory(seed=seed) for seed in (0, 1)])
    next(
        path
        for path in sorted(root.rglob("*.json"))
        if path.stem.isalnum() and len(path.stem) == 40
    ).write_text("{")
    with pytest.warns(UserWarning, match="unreadable files of the store are left out: 1, first"):
        assert len(load(root)) == 1


def test_without_a_store_there_is_no_frame(tmp_path: Path) -> None:
    """One line says so."""
    with pytest.raises(UserError):
        load(tmp_path / "nowhere")


def test_import_is_cheap() -> None:
    """Neither pandas nor anything else of size is imported before it is needed."""
    code = (
        "import sys, paibench.leaderboard; sys.exit(bool({'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

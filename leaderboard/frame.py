"""The records of stores as one pandas frame, with what failed, is missing or cannot be read."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paibench.benchmark.entries import Problem
from paibench.benchmark.record import PROTOCOL
from paibench.leaderboard.columns import COLUMNS
from paibench.leaderboard.holdings import holdings, merged
from paibench.leaderboard.rows import STORED, Row, label, row_of, values

__all__ = ["Frame", "Row", "label", "load", "row_of", "tabulate"]

_PERCENT = ("accuracy", "accuracy_best", "accuracy_untrained", "native_accuracy")


@dataclass(frozen=True)
class Frame:
    """One row per run with the columns of `columns.COLUMNS`, and what could not be read."""

    runs: pd.DataFrame
    problems: tuple[Problem, ...] = ()


def load(root: Path, *more: Path) -> Frame:
    """Every run that a store, or any of several, knows of.

    Runs that failed, or that a sweep of a store asks for and nobody has done, are rows without
    results. Files that cannot be trusted or are of a later schema are problems, never rows.
    A run that several stores know is one row: a result stands before a record without one, that
    before a failure, that before a missing run; of equals the one of the first store in the order
    of their paths, and where two records differ, `conflict` names the fields.
    Raises UserError where there is no store.
    """
    with _no_collection():
        found = [holdings(path) for path in _different([root, *more])]
        runs = merged([each.runs for each in found]) if len(found) > 1 else found[0].runs
        table = _frame([run.values for run in runs.values()])
    return Frame(table, tuple(problem for each in found for problem in each.problems))


def tabulate(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows of runs as a frame with every column of `columns.COLUMNS`, each of its type."""
    return _frame([values(row) for row in rows])


def _frame(table: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """The frame of runs from the `values` of each."""
    columns = dict(zip(STORED, zip(*table, strict=True), strict=True)) if table else {}
    runs = pd.DataFrame(
        {name: _typed(columns.get(name, ()), COLUMNS[name].dtype) for name in STORED}
    )
    runs["protocol"] = _as_in_its_track(runs, "protocol").fillna(PROTOCOL)
    runs["split"] = _as_in_its_track(runs.assign(split=_splits(runs)), "split").fillna("unknown")
    reached = runs["density"].fillna(runs["density_asked"])
    runs["sparsity"] = 1 - reached
    runs["compression"] = 1 / reached
    for name in _PERCENT:
        runs[f"{name}_percent"] = 100 * runs[name]
    return runs[list(COLUMNS)].astype({name: column.dtype for name, column in COLUMNS.items()})


def _typed(values: Sequence[Any], dtype: str) -> Any:
    """The values of a column as an array of its type, None as missing."""
    if dtype == "object":
        array = np.empty(len(values), dtype="object")
        array[:] = [np.nan if value is None else value for value in values]
        return array
    if dtype == "float64":
        return np.array(values, dtype="float64")
    return pd.Series(list(values), dtype=dtype).array


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for cycles, which is a fifth of the time where millions of values come in."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _different(paths: list[Path]) -> list[Path]:
    """Each store once, in the order of their paths."""
    absolute = sorted((path.absolute() for path in paths), reverse=True)
    return sorted({path.resolve(): path for path in absolute}.values())


def _splits(runs: pd.DataFrame) -> pd.Series:
    """What each run was evaluated on, told apart where one data set has several fingerprints."""
    versions = runs.groupby("dataset")["data_fingerprint"].transform("nunique")
    several = runs["evaluated_on"] + ", data " + runs["data_fingerprint"].astype("str").str[:8]
    return runs["evaluated_on"].where(versions <= 1, several)


def _as_in_its_track(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column in which runs without a value have the commonest of runs like them."""
    known = runs.dropna(subset=[name])
    track = ["dataset", "model", "recipe", "init"]
    commonest = known.groupby(track)[name].agg(lambda values: values.mode().iloc[0])
    usual = runs[track].merge(commonest.reset_index(), on=track, how="left")[name]
    return runs[name].fillna(usual.set_axis(runs.index))

"""The runs of one or several stores as one pandas frame."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paibench.benchmark.record import PROTOCOL
from paibench.benchmark.spec import SETTING
from paibench.benchmark.store.layout import all_stores
from paibench.benchmark.store.records import Problem
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.read import merge, read_store
from paibench.leaderboard.frame.rows import STORED, Row, values

_PERCENT = ("accuracy", "accuracy_best", "accuracy_untrained", "native_accuracy")


@dataclass(frozen=True)
class Frame:
    """One row per run with the columns of `columns.COLUMNS`, and the files that were not read."""

    runs: pd.DataFrame
    problems: tuple[Problem, ...] = ()


def load(root: Path, *more: Path) -> Frame:
    """Return every run that one or several stores, or folders of stores, know of.

    Runs that failed, and runs of a sweep that nobody has done yet, are rows without results. Files
    that cannot be trusted or have a later schema are problems, not rows. A run that is in several
    stores is one row: a result goes before a record without a result, then come failures and
    missing runs; equals are taken from the first store in the order of their paths. If two records
    differ, `conflict` names the columns. Raises UserError if there is no store.
    """
    with _without_garbage_collection():
        stores = [read_store(path) for path in _distinct(all_stores([root, *more]))]
        runs = merge([store.runs for store in stores]) if len(stores) > 1 else stores[0].runs
        table = _frame([run.values for run in runs.values()])
    return Frame(table, tuple(problem for store in stores for problem in store.problems))


def tabulate(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows of runs as a frame with every column of `columns.COLUMNS`, each of its type."""
    return _frame([values(row) for row in rows])


def _frame(table: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Return the frame of runs from the `values` of each."""
    columns = dict(zip(STORED, zip(*table, strict=True), strict=True)) if table else {}
    runs = pd.DataFrame(
        {name: _typed(columns.get(name, ()), COLUMNS[name].dtype) for name in STORED}
    )
    # If no comparable run has a record, the run would follow the present protocol.
    runs["protocol"] = _filled_by_track(runs, "protocol").fillna(PROTOCOL)
    runs["split"] = _filled_by_track(runs.assign(split=_splits(runs)), "split").fillna("unknown")
    # Runs without a record are cells of tables and figures too.
    reached = runs["density"].fillna(runs["density_asked"])
    runs["sparsity"] = 1 - reached
    runs["compression"] = 1 / reached
    for name in _PERCENT:
        runs[f"{name}_percent"] = 100 * runs[name]
    return runs[list(COLUMNS)].astype({name: column.dtype for name, column in COLUMNS.items()})


def _typed(values: Sequence[Any], dtype: str) -> Any:
    """Return the values of a column as an array of its type; None is a missing value."""
    if dtype == "object":
        # `np.array` would make a matrix of lists that have equal lengths.
        array = np.empty(len(values), dtype="object")
        array[:] = [np.nan if value is None else value for value in values]
        return array
    if dtype == "float64":
        # numpy converts None to NaN.
        return np.array(values, dtype="float64")
    return pd.Series(list(values), dtype=dtype).array


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause the search for reference cycles, a fifth of the time to read a large store."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _distinct(paths: list[Path]) -> list[Path]:
    """Return each store once, in the order of their paths."""
    # The reverse order makes the first of two paths to one store the one that stays.
    absolute = sorted((path.absolute() for path in paths), reverse=True)
    return sorted({path.resolve(): path for path in absolute}.values())


def _splits(runs: pd.DataFrame) -> pd.Series:
    """Return the evaluation split of each run, with the fingerprint if a data set has several."""
    # Results on different versions of the data must not be averaged.
    versions = runs.groupby("dataset")["data_fingerprint"].transform("nunique")
    several = runs["evaluated_on"] + ", data " + runs["data_fingerprint"].astype("str").str[:8]
    return runs["evaluated_on"].where(versions <= 1, several)


def _filled_by_track(runs: pd.DataFrame, name: str) -> pd.Series:
    """Return a column in which missing values are the commonest of comparable runs.

    Runs without a record do not know their split and protocol, but must be rows of some track.
    """
    with_value = runs.dropna(subset=[name])
    track = list(SETTING)
    commonest = with_value.groupby(track)[name].agg(lambda values: values.mode().iloc[0])
    usual = runs[track].merge(commonest.reset_index(), on=track, how="left")[name]
    return runs[name].fillna(usual.set_axis(runs.index))

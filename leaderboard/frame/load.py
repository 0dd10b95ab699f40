"""The records of stores as one pandas frame, with what failed, is missing or cannot be read."""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from paibench.benchmark.record import PROTOCOL, VOLATILE
from paibench.benchmark.spec import SETTING, Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode
from paibench.benchmark.store.records import Problem
from paibench.benchmark.store.store import Store
from paibench.leaderboard.frame.columns import COLUMNS, GIVEN
from paibench.leaderboard.frame.recorded import Run, RunState, recorded
from paibench.leaderboard.frame.rows import STORED, Row, Rows, label, one_line, row_of, values

_LARGEST_SWEEP = 2**26
_CONFLICT = STORED.index("conflict")
# What two records of one run have to agree in; the schema is their form, not what they say.
COMPARED = [
    (place, name)
    for place, name in enumerate(STORED)
    if name in GIVEN and name not in {*VOLATILE, "schema"}
]


class Holdings(NamedTuple):
    """The runs of a store by key, records first, and what cannot be read."""

    runs: dict[str, Run]
    problems: list[Problem]


def holdings(root: Path) -> Holdings:
    """Every run that a store knows of. Raises UserError where there is no store."""
    store = Store.read(root)
    rows = Rows()
    runs, problems = recorded(store, rows)
    asked, broken_sweeps = _asked(store)
    unreadable = {problem.path.stem: problem.reason for problem in problems}
    known = set(runs)
    found = Holdings(runs, problems)
    for key in sorted(store.listing().failed):
        note = store.last_failure(key) or {}
        plain = note.get("spec") or asked.get(key)
        reason = str(note.get("reason") or "its failure note cannot be read")
        known.add(key)
        path = store.record_path(key).with_suffix(".failed")
        _add(found, rows, RunState.FAILED, path, key, plain, reason)
    for key in sorted(asked.keys() - known):
        why = f"its record cannot be read: {unreadable[key]}" if key in unreadable else None
        _add(found, rows, RunState.MISSING, store.root / "sweeps", key, asked[key], why)
    problems.extend(broken_sweeps)
    return found


def merged(several: list[dict[str, Run]]) -> dict[str, Run]:
    """The runs of several stores, one of each key.

    The best kind stands, of equal ones that of the first store; where two records differ in what
    is equal bit for bit whoever makes it, its `conflict` names the fields.
    """
    runs: dict[str, Run] = {}
    for more in several:
        for key, run in more.items():
            there = runs.get(key)
            runs[key] = run if there is None else _better(there, run)
    return dict(
        sorted(runs.items(), key=lambda each: (max(each[1].kind, RunState.NO_RESULT), each[0]))
    )


def _better(first: Run, second: Run) -> Run:
    if first.kind != second.kind:
        return min(first, second, key=lambda run: run.kind)
    if first.kind > RunState.NO_RESULT:
        return first
    ours, theirs = first.values, second.values
    fields = {name for place, name in COMPARED if ours[place] != theirs[place]}
    for said in (ours[_CONFLICT], theirs[_CONFLICT]):
        fields.update(said.split(", ") if said else ())
    conflict = ", ".join(sorted(fields)) or None
    return Run(first.kind, (*ours[:_CONFLICT], conflict, *ours[_CONFLICT + 1 :]))


def _asked(store: Store) -> tuple[dict[str, Any], list[Problem]]:
    """The specs of all sweeps by key, as they stand in the files."""
    specs: dict[str, Any] = {}
    problems = []
    for path in sorted((store.root / "sweeps").glob("[!.]*.json")):
        try:
            runs = decode(read(path, _LARGEST_SWEEP)).get("runs")
            if not isinstance(runs, Mapping):
                raise Corrupt("it has no runs")
            specs.update(runs)
        except (Corrupt, OSError) as error:
            problems.append(Problem(path, f"is no sweep: {one_line(error)}"))
    return specs, problems


def _add(
    found: Holdings,
    rows: Rows,
    kind: RunState,
    path: Path,
    key: str,
    plain: Any,
    reason: str | None,
) -> None:
    """Add a run without a record; where what was asked for is not known, a problem."""
    status = kind.name.lower()
    try:
        spec = Spec.read(plain)
        if spec.key != key:
            raise ValueError(f"the key {key} is not that of its spec")
    except (ValueError, ArithmeticError) as error:
        said = f"{status} ({reason}), " if reason else ""
        what = one_line(error) if plain else "no sweep of the store says what it was"
        found.problems.append(Problem(path, f"{said}run {key}: {what}"))
    else:
        row = {**rows.asked(spec, key), "status": status, "reason": reason}
        found.runs[key] = Run(kind, values(row))


# frame: The records of stores as one pandas frame, with what failed, is missing or cannot be read.

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
    track = list(SETTING)
    commonest = known.groupby(track)[name].agg(lambda values: values.mode().iloc[0])
    usual = runs[track].merge(commonest.reset_index(), on=track, how="left")[name]
    return runs[name].fillna(usual.set_axis(runs.index))

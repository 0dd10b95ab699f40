"""The records of a store as one pandas frame, with what failed, is missing or cannot be read."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from paibench.benchmark.commit import read
from paibench.benchmark.entries import Problem
from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.seal import Corrupt, unseal
from paibench.benchmark.spec import Named, Spec
from paibench.benchmark.store import Store
from paibench.leaderboard.columns import COLUMNS

Row = dict[str, Any]

_LARGEST_SWEEP = 2**26
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
_CONSTANTS = ("None", "True", "False")
_COUNTS = [name for name, column in COLUMNS.items() if column.dtype == "Int64"]
_PERCENT = ("accuracy", "accuracy_best", "accuracy_untrained", "native_accuracy")


@dataclass(frozen=True)
class Frame:
    """One row per run with the columns of `columns.COLUMNS`, and what could not be read."""

    runs: pd.DataFrame
    problems: tuple[Problem, ...] = ()


def load(root: Path) -> Frame:
    """Every run that a store knows of.

    Runs that failed, or that a sweep of the store asks for and nobody has done, are rows without
    results. Files that cannot be trusted or are of a later schema are problems, never rows.
    Raises UserError where there is no store.
    """
    store = Store.read(root)
    rows, problems = _recorded(store)
    asked, broken_sweeps = _asked(store)
    unreadable = {problem.path.stem: problem.reason for problem in problems}
    known = {row["key"] for row in rows}
    for key in sorted(store.listing().failed):
        note = store.last_failure(key) or {}
        plain = note.get("spec") or asked.get(key)
        reason = str(note.get("reason") or "its failure note cannot be read")
        known.add(key)
        _add(rows, problems, store.record_path(key).with_suffix(".failed"), key, plain, reason)
    for key in sorted(asked.keys() - known):
        why = f"its record cannot be read: {unreadable[key]}" if key in unreadable else None
        _add(rows, problems, store.root / "sweeps", key, asked[key], why, status="missing")
    return Frame(tabulate(rows), (*problems, *broken_sweeps))


def row_of(record: Record) -> Row:
    """A record as one flat row; the display columns are added by `tabulate`.

    Raises ValueError for whole numbers that no column holds.
    """
    asked = _asked_for(Spec.model_validate(record.spec))
    row = {**dict(record), **dict(record.environment), "schema": record.schema_number, **asked}
    for name in _COUNTS:
        if abs(row[name] or 0) >= 2**63:
            raise ValueError(f"{name}: is larger than any count can be")
    return row


def tabulate(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows of runs as a frame with every column of `columns.COLUMNS`, each of its type."""
    runs = pd.DataFrame(list(rows), columns=list(COLUMNS))
    runs["protocol"] = _as_in_its_track(runs, "protocol").fillna(PROTOCOL)
    runs["split"] = _as_in_its_track(runs.assign(split=_splits(runs)), "split").fillna("unknown")
    reached = runs["density"].fillna(runs["density_asked"]).astype("float64")
    runs["sparsity"] = 1 - reached
    runs["compression"] = 1 / reached
    for name in _PERCENT:
        runs[f"{name}_percent"] = 100 * runs[name].astype("float64")
    return runs.astype({name: column.dtype for name, column in COLUMNS.items()})


def label(named: Named) -> str:
    """A name with its options, so that two that differ never look the same."""
    options = ", ".join(f"{name}={_shown(value)}" for name, value in sorted(named.options.items()))
    return f"{named.name}({options})" if options else named.name


def _shown(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in _CONSTANTS:
        return value
    return repr(value)


def _asked_for(spec: Spec) -> Row:
    return {
        "key": spec.key,
        "dataset": label(spec.dataset),
        "model": label(spec.model),
        "recipe": label(spec.recipe),
        "init": spec.init,
        "method": spec.method.name,
        "method_label": label(spec.method),
        "control": spec.control,
        "seed": spec.seed,
        "density_asked": spec.density,
    }


def _recorded(store: Store) -> tuple[list[Row], list[Problem]]:
    rows, problems = [], []
    for entry in store.records():
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        try:
            row = row_of(Record.read(entry.record))
        except (ValueError, ArithmeticError) as error:  # a huge whole number overflows
            problems.append(Problem(entry.path, f"is no record: {_one_line(error)}"))
            continue
        row["conflict"] = _conflict(store, row["key"])
        rows.append(row)
    return rows, problems


def _conflict(store: Store, key: str) -> str | None:
    """The fields in which a later attempt at this run came out different, if any did."""
    fields: set[str] = set()
    attempts = store.run_folder(key) / "attempts"
    with suppress(FileNotFoundError, NotADirectoryError):
        names = os.listdir(attempts)
        for name in names if len(names) > 1 else ():
            with suppress(OSError, Corrupt):
                note = unseal(read(attempts / name / "divergence.json"))
                fields.update(map(str, note.get("fields", ())))
    return ", ".join(sorted(fields)) or None


def _asked(store: Store) -> tuple[dict[str, Any], list[Problem]]:
    """The specs of all sweeps by key, as they stand in the files."""
    specs: dict[str, Any] = {}
    problems = []
    for path in sorted((store.root / "sweeps").glob("[!.]*.json")):
        try:
            runs = unseal(read(path, _LARGEST_SWEEP)).get("runs")
            if not isinstance(runs, Mapping):
                raise Corrupt("it has no runs")
            specs.update(runs)
        except (Corrupt, OSError) as error:
            problems.append(Problem(path, f"is no sweep: {_one_line(error)}"))
    return specs, problems


def _add(
    rows: list[Row],
    problems: list[Problem],
    path: Path,
    key: str,
    plain: Any,
    reason: str | None,
    status: str = "failed",
) -> None:
    """Add a run without a record; where what was asked for is not known, a problem."""
    try:
        asked = _asked_for(Spec.model_validate(plain))
        if asked["key"] != key:
            raise ValueError(f"the key {key} is not that of its spec")
    except (ValueError, ArithmeticError) as error:
        said = f"{status} ({reason}), " if reason else ""
        what = _one_line(error) if plain else "no sweep of the store says what it was"
        problems.append(Problem(path, f"{said}run {key}: {what}"))
    else:
        rows.append({**asked, "status": status, "reason": reason})


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

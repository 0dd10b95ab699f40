"""A run as one flat row, from its record or from what a sweep asked for."""

import json
import math
import re
from typing import Any

import pandas as pd

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Named, Spec
from paibench.leaderboard.frame.columns import ASKED, COLUMNS, ENVIRONMENT, GIVEN

Row = dict[str, Any]

STORED = [*ASKED, *GIVEN, *ENVIRONMENT, "conflict"]
"""The columns that are read from a store; the others are computed from them."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
_CONSTANTS = ("None", "True", "False")
_COUNTS = [name for name, column in COLUMNS.items() if column.dtype == "Int64"]


def row_of(record: Record) -> Row:
    """A record as one flat row; the display columns are added by `tabulate`.

    Raises ValueError for whole numbers that no column holds.
    """
    return Rows().of(record, Spec.model_validate(record.spec))


class Rows:
    """Makes rows, and remembers the labels of names that it met."""

    def __init__(self) -> None:
        self._labels: dict[int, tuple[Named, str]] = {}  # by identity, of what is kept alive here

    def of(self, record: Record, spec: Spec) -> Row:
        """The row of a record. Raises ValueError for whole numbers that no column holds."""
        asked = self.asked(spec, record.key)
        row = {**vars(record), **vars(record.environment), "schema": record.schema_number, **asked}
        for name in _COUNTS:
            if abs(row[name] or 0) >= 2**63:
                raise ValueError(f"{name}: is larger than any count can be")
        return row

    def asked(self, spec: Spec, key: str) -> Row:
        """What a spec says of its run, whose key is known."""
        return {
            "key": key,
            "spec": spec.canonical_json,
            "dataset": self._label(spec.dataset),
            "model": self._label(spec.model),
            "recipe": self._label(spec.recipe),
            "init": spec.init,
            "method": spec.method.name,
            "method_label": self._label(spec.method),
            "control": spec.control,
            "seed": spec.seed,
            "density_asked": spec.density,
        }

    def _label(self, named: Named) -> str:
        known = self._labels.get(id(named))
        if known is None:
            known = self._labels[id(named)] = (named, label(named))
        return known[1]


def models(runs: pd.DataFrame) -> dict[str, Named]:
    """Return the models of a frame of runs by their labels."""
    specs = runs.drop_duplicates("model")
    pairs = zip(specs["model"], specs["spec"], strict=True)
    return {str(label): Spec.read(json.loads(spec)).model for label, spec in pairs}


def option_number(named: Named, option: str, default: float) -> float:
    """Return an option as a number: the default if it is not set, NaN if it is no number."""
    value = named.options.get(option, default)
    return float(value) if isinstance(value, int | float) else math.nan


def label(named: Named) -> str:
    """A name with its options, so that two that differ never look the same."""
    options = ", ".join(f"{name}={_shown(value)}" for name, value in sorted(named.options.items()))
    return f"{named.name}({options})" if options else named.name


def values(row: Row) -> tuple[Any, ...]:
    """The values of the columns of `STORED`, which take less room than a row."""
    return tuple(map(row.get, STORED))


def _shown(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in _CONSTANTS:
        return value
    return repr(value)


def one_line(error: BaseException) -> str:
    """What an error says, in at most 200 characters."""
    return " ".join(str(error).split())[:200]

"""A run as one flat row, from its record or from its spec alone."""

import json
import math
import re
from typing import Any

import pandas as pd

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Named, Spec
from paibench.leaderboard.frame.columns import COLUMNS, ENVIRONMENT, RESULT, SPEC

Row = dict[str, Any]

STORED = [*SPEC, *RESULT, *ENVIRONMENT, "conflict"]
"""The columns that are read from a store; the others are computed from them."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
_CONSTANTS = ("None", "True", "False")
_COUNTS = [name for name, column in COLUMNS.items() if column.dtype == "Int64"]


def row_of(record: Record) -> Row:
    """Return a record as one flat row; `tabulate` adds the display columns.

    Raises ValueError for an integer that no column can hold.
    """
    return Rows().of(record, Spec.model_validate(record.spec))


class Rows:
    """Builds rows, with a cache of labels, which most rows share."""

    def __init__(self) -> None:
        self._labels: dict[int, tuple[Named, str]] = {}  # by identity; the value keeps it alive

    def of(self, record: Record, spec: Spec) -> Row:
        """Return the row of a record. Raises ValueError for an integer that no column can hold."""
        from_spec = self.of_spec(spec, record.key)
        # The columns of the spec come last: `spec` is text here, but a dictionary in the record.
        row = {
            **vars(record),
            **vars(record.environment),
            "schema": record.schema_number,
            **from_spec,
        }
        for name in _COUNTS:
            # One such record must not stop the table, whose Int64 columns cannot hold it.
            if abs(row[name] or 0) >= 2**63:
                raise ValueError(f"{name}: is too large for a count")
        return row

    def of_spec(self, spec: Spec, key: str) -> Row:
        """Return the columns of `SPEC` of a run whose key is known."""
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
        cached = self._labels.get(id(named))
        if cached is None:
            cached = self._labels[id(named)] = (named, label(named))
        return cached[1]


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
    """Return a name with its options; different names and options give different labels."""
    # The order in which a user writes options must not give another label.
    options = ", ".join(f"{name}={_shown(value)}" for name, value in sorted(named.options.items()))
    return f"{named.name}({options})" if options else named.name


def values(row: Row) -> tuple[Any, ...]:
    """Return the values of the columns of `STORED`, which need less memory than a row."""
    return tuple(map(row.get, STORED))


def _shown(value: object) -> str:
    # Text that looks like another value is quoted: 'None' is not None.
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in _CONSTANTS:
        return value
    return repr(value)


def one_line(error: BaseException) -> str:
    """Return the message of an error in at most 200 characters."""
    return " ".join(str(error).split())[:200]

"""Any view as CSV: a table of numbers and words that no spreadsheet takes for formulas."""

from functools import lru_cache

import pandas as pd

from paibench.leaderboard import escape


def csv(view: pd.DataFrame) -> str:
    """A frame as CSV at full precision, without its index; lists are joined by semicolons."""
    safe = view.copy()
    for name in view.select_dtypes(["str", "object"]):
        safe[name] = view[name].map(_cell)
    safe.columns = pd.Index([escape.spreadsheet(str(name)) for name in view.columns])
    return safe.to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    if isinstance(value, list | tuple):
        return _text("; ".join(map(str, value)))
    return _text(value) if isinstance(value, str) else value


_text = lru_cache(maxsize=65_536)(escape.spreadsheet)  # most texts of a store occur in many runs

"""The leaderboard: records as tables, statistics, figures and a web site."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(store: "str | PathLike[str]", *more: "str | PathLike[str]") -> "pd.DataFrame":
    """Return the runs of one or several stores as a pandas frame; docs/frame.md has its columns.

    Warns if files of a store cannot be read; their runs are not in the frame. Raises UserError if
    there is no store.
    """
    import warnings
    from pathlib import Path

    from paibench.leaderboard.frame import load

    frame = load.load(Path(store), *map(Path, more))
    if frame.problems:
        first = frame.problems[0]
        example = f"{first.path.name}: {first.reason}"
        warnings.warn(
            f"unreadable files of the store are left out: {len(frame.problems)}, first {example}",
            stacklevel=2,
        )
    return frame.runs

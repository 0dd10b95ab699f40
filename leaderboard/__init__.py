"""What the records say: tables, statistics and plots."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(store: "str | PathLike[str]", *more: "str | PathLike[str]") -> "pd.DataFrame":
    """The runs of a store, or of several, as a pandas frame; docs/frame.md has its columns.

    Warns where files of the store could not be read: what they say is not in the frame. Raises
    UserError where there is no store.
    """
    import warnings
    from pathlib import Path

    from paibench.leaderboard.frame import load

    found = load.load(Path(store), *map(Path, more))
    if found.problems:
        first = found.problems[0]
        said = f"{first.path.name}: {first.reason}"
        warnings.warn(
            f"unreadable files of the store are left out: {len(found.problems)}, first {said}",
            stacklevel=2,
        )
    return found.runs

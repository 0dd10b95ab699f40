"""In which order methods stand: by what they reach at the middle density, like after like."""

import math

import pandas as pd


def middle(cells: pd.DataFrame) -> float:
    """The density that decides the order: the middle one of the pruned cells, 1 without any."""
    densities = sorted(cells.loc[cells["density_asked"] < 1, "density_asked"].unique())
    return float(densities[len(densities) // 2]) if densities else 1.0


def incomplete(cells: pd.DataFrame) -> pd.Series:
    """The cells in which a run that was asked for gave no accuracy."""
    return cells["accuracy_n"] < cells["runs"]


def elsewhere(cells: pd.DataFrame) -> set[str]:
    """The names in the column `row` of cells with a ticket that is not at initialization."""
    return set(cells.loc[cells["not_at_initialization"] > 0, "row"])


def ranked(cells: pd.DataFrame) -> list[str]:
    """The names in the column `row` of cells: dense, random, then by mean at the middle density.

    A row that lost runs there comes after those that lost none, since the mean of survivors
    flatters; rows with tickets that are not at initialization come after all others.
    """
    at_middle = cells[cells["density_asked"] == middle(cells)]
    means = at_middle.set_index("row")["accuracy_mean"]
    whole = set(at_middle.loc[~incomplete(at_middle), "row"])
    late = elsewhere(cells)

    def place(name: str) -> tuple[bool, bool, bool, bool, float, str]:
        mean = means.get(name, math.nan)
        fallen = math.inf if math.isnan(mean) else -mean
        return name != "dense", name != "random", name in late, name not in whole, fallen, name

    return sorted(cells["row"].unique(), key=place)

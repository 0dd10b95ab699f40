"""In which order methods stand: by what they reach at the middle density, like after like."""

import math
from collections.abc import Iterator

import pandas as pd

from paibench.leaderboard.stats.summary import TRACK, half_width


def median_density(cells: pd.DataFrame) -> float:
    """The density that decides the order: the middle one of the pruned cells, 1 without any."""
    densities = sorted(cells.loc[cells["density_asked"] < 1, "density_asked"].unique())
    return float(densities[len(densities) // 2]) if densities else 1.0


def incomplete(cells: pd.DataFrame) -> pd.Series:
    """The cells in which a run that was asked for gave no accuracy."""
    return cells["accuracy_n"] < cells["runs"]


def rewound_rows(cells: pd.DataFrame) -> set[str]:
    """The names in the column `row` of cells with a ticket that is not at initialization."""
    return set(cells.loc[cells["not_at_initialization"] > 0, "row"])


def ranked(cells: pd.DataFrame) -> list[str]:
    """The names in the column `row` of cells: dense, random, then by mean at the middle density.

    A row that lost runs there comes after those that lost none, since the mean of survivors
    flatters; rows with tickets that are not at initialization come after all others.
    """
    at_middle = cells[cells["density_asked"] == median_density(cells)]
    means = at_middle.set_index("row")["accuracy_mean"]
    whole = set(at_middle.loc[~incomplete(at_middle), "row"])
    late = rewound_rows(cells)

    def place(name: str) -> tuple[bool, bool, bool, bool, float, str]:
        mean = means.get(name, math.nan)
        fallen = math.inf if math.isnan(mean) else -mean
        return name != "dense", name != "random", name in late, name not in whole, fallen, name

    return sorted(cells["row"].unique(), key=place)


# groups: Which methods are ranked together, and which of them the intervals do not tell apart.

PODIUM = 3  # places that only rows that may lead can hold
_SAME = 1e-12  # intervals this far apart touch, but for the rounding of floats
_ROW = [*TRACK, "method_label", "control"]


def row_class(cells: pd.DataFrame) -> pd.Series:
    """The class of each cell: like is ranked with like.

    "reference" is dense and the floor, `random` without options; "control" every control; "not at
    initialization" all cells of a row that has a run whose ticket starts from other weights; "at
    initialization" the rest.
    """
    late = cells["not_at_initialization"].gt(0).groupby([cells[c] for c in _ROW]).transform("any")
    reference = (cells["method"] == "dense") | (cells["method_label"] == "random")
    found = pd.Series("at initialization", index=cells.index, dtype="str")
    found = found.mask(late, "not at initialization").mask(reference, "reference")
    return found.mask(cells["control"] != "none", "control")


def ranked_class(cells: pd.DataFrame) -> pd.Series:
    """Return which cells are of a class that is ranked: at initialization, or the random floor."""
    floor = (cells["method_label"] == "random") & (cells["control"] == "none")
    return (row_class(cells) == "at initialization") | floor


def ranked_cells(cells: pd.DataFrame) -> pd.Series:
    """The cells that have a place: at initialization or the floor, pruned, whole, of two runs.

    The floor is ranked among the methods so that a reader sees who is below it.
    """
    whole = ~incomplete(cells) & cells["accuracy_half"].notna()
    return ranked_class(cells) & whole & (cells["density_asked"] < 1)


def rank_groups(cells: pd.DataFrame, may_lead: pd.Series | None = None) -> pd.Series:
    """The place of each cell within its track and density, 1 being best; <NA> if not ranked.

    By falling mean, a group is its best cell and those that follow it without a gap and whose
    95 % interval overlaps the best one's. All have the place of the first: 1 + the number of
    cells in the groups before. With `may_lead`, by the index of `cells`, only cells for which
    it is true hold places 1 to 3: as in a ranking of those alone. The others have their place
    among all, but at best 4; so have those that come after 3 among the ones that may lead.
    """
    standing = cells[ranked_cells(cells)]
    places = _places(standing)
    if may_lead is not None:
        leads = may_lead.reindex(standing.index).astype("boolean").fillna(False).astype("bool")
        among = _places(standing[leads]).reindex(standing.index)
        least = among.fillna(PODIUM + 1)
        later = places.mask(places < least, least)
        places = later.mask(least <= PODIUM, least).astype("int64")
    return places.reindex(cells.index).astype("Int64")


def supermasks(runs: pd.DataFrame) -> pd.DataFrame:
    """Supermasks as their search would deploy them, without training: a class of its own.

    A row per track, method and density asked: `native_density`, the mean of the densities that
    the searches ended with, `n`, `mean` and `half` of `native_accuracy`. They have no places:
    their densities are not those asked for, and nothing else is scored this way.
    """
    by = [*TRACK, "method", "method_label", "density_asked"]
    scored = runs["native_accuracy"].notna() & runs["status"].isin(["done", "diverged"])
    groups = runs[scored & (runs["control"] == "none")].groupby(by)
    found = groups["native_accuracy"].agg(["count", "mean", "std"])
    found["half"] = half_width(found["std"], found["count"])
    found.insert(0, "native_density", groups["native_density"].mean())
    return found.rename(columns={"count": "n"}).drop(columns="std").reset_index()


def _places(cells: pd.DataFrame) -> pd.Series:
    by = [*TRACK, "density_asked"]
    order = cells.sort_values([*by, "accuracy_mean", "method_label"], ascending=_falling(by))
    which = order.groupby(by).ngroup().tolist()
    means, halves = order["accuracy_mean"].tolist(), order["accuracy_half"].tolist()
    places = list(_walk(which, means, halves))
    return pd.Series(places, index=order.index, dtype="int64").reindex(cells.index)


def _falling(by: list[str]) -> list[bool]:
    return [*[True] * len(by), False, True]


def _walk(which: list[int], means: list[float], halves: list[float]) -> Iterator[int]:
    """Places of cells that are in order of their table and, within it, of falling mean."""
    table, ahead, place, low = -1, 0, 0, 0.0
    for here, mean, half in zip(which, means, halves, strict=True):
        if here != table:
            table, ahead, place = here, 0, 0
        if not place or mean + half < low - _SAME:
            place, low = ahead + 1, mean - half
        ahead += 1
        yield place

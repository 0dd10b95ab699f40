"""The order of rows in a table, classes of cells, and rank groups within a track and density."""

import math
from collections.abc import Iterator

import pandas as pd

from paibench.leaderboard.stats.summary import ROUNDING, TRACK, ended, half_width


def median_density(cells: pd.DataFrame) -> float:
    """Return the density that decides the order: the median of those below 1, or 1 if none is."""
    densities = sorted(cells.loc[cells["density_asked"] < 1, "density_asked"].unique())
    # Of two in the middle the denser is taken, because a mean of both was never run.
    return float(densities[len(densities) // 2]) if densities else 1.0


def incomplete(cells: pd.DataFrame) -> pd.Series:
    """Return which cells lack the accuracy of a run that was asked for."""
    return cells["accuracy_n"] < cells["runs"]


def rewound_rows(cells: pd.DataFrame) -> set[str]:
    """Return the names in the column `row` of cells with a ticket not at initialization."""
    return set(cells.loc[cells["not_at_initialization"] > 0, "row"])


def ranked(cells: pd.DataFrame) -> list[str]:
    """Return the names in the column `row`: dense, random, then by mean at the median density.

    A row that lost runs there comes after those that lost none, since the mean of the runs that
    succeeded is too favourable. Rows with tickets not at initialization come last.
    """
    at_middle = cells[cells["density_asked"] == median_density(cells)]
    means = at_middle.set_index("row")["accuracy_mean"]
    whole = set(at_middle.loc[~incomplete(at_middle), "row"])
    late = rewound_rows(cells)

    def sort_key(name: str) -> tuple[bool, bool, bool, bool, float, str]:
        mean = means.get(name, math.nan)
        # NaN would leave the order undefined.
        fallen = math.inf if math.isnan(mean) else -mean
        return name != "dense", name != "random", name in late, name not in whole, fallen, name

    return sorted(cells["row"].unique(), key=sort_key)


PODIUM = 3  # the places that only cells which may lead can hold
_ROW = [*TRACK, "method_label", "control"]


def row_class(cells: pd.DataFrame) -> pd.Series:
    """Return the class of each cell; cells are ranked only within their class.

    "reference" is dense and `random` without options; "control" is every control; "not at
    initialization" is every cell of a row with a ticket that starts from other weights; all
    others are "at initialization".
    """
    # One such ticket is enough: a row is ranked as a whole or not at all.
    late = cells["not_at_initialization"].gt(0).groupby([cells[c] for c in _ROW]).transform("any")
    reference = (cells["method"] == "dense") | (cells["method_label"] == "random")
    classes = pd.Series("at initialization", index=cells.index, dtype="str")
    # The last mask wins, so that a control of `random` is a control.
    classes = classes.mask(late, "not at initialization").mask(reference, "reference")
    return classes.mask(cells["control"] != "none", "control")


def ranked_class(cells: pd.DataFrame) -> pd.Series:
    """Return which cells are of a class that is ranked: at initialization, or the random floor."""
    floor = (cells["method_label"] == "random") & (cells["control"] == "none")
    return (row_class(cells) == "at initialization") | floor


def ranked_cells(cells: pd.DataFrame) -> pd.Series:
    """Return which cells have a place: of a ranked class, pruned, complete, of two runs or more.

    `random` is ranked among the methods, so that a reader sees which of them are below it.
    """
    whole = ~incomplete(cells) & cells["accuracy_half"].notna()
    return ranked_class(cells) & whole & (cells["density_asked"] < 1)


def rank_groups(cells: pd.DataFrame, may_lead: pd.Series | None = None) -> pd.Series:
    """Return the place of each cell within its track and density: 1 is best, <NA> is not ranked.

    In order of falling mean, a group is its best cell and the cells after it, up to the first whose
    95 % interval does not overlap that of the best. All have the place of the first: 1 + the number
    of cells in the groups before.

    If `may_lead` is given, by the index of `cells`, only cells for which it is true hold places 1
    to 3, as in a ranking of these alone. All other cells, and those that come after the third of
    these, have their place among all cells, but at best 4.
    """
    ranked = cells[ranked_cells(cells)]
    places = _places(ranked)
    if may_lead is not None:
        leads = may_lead.reindex(ranked.index).astype("boolean").fillna(False).astype("bool")
        among = _places(ranked[leads]).reindex(ranked.index)
        least = among.fillna(PODIUM + 1)
        later = places.mask(places < least, least)
        places = later.mask(least <= PODIUM, least).astype("int64")
    return places.reindex(cells.index).astype("Int64")


def supermasks(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of supermasks as their own search would deploy them, without training.

    A row per track, method and density asked, with `native_density`, the mean of the densities that
    the searches reached, and `n`, `mean` and `half` of `native_accuracy`. They are not ranked,
    since their densities are not those that were asked for.
    """
    by = [*TRACK, "method", "method_label", "density_asked"]
    scored = runs["native_accuracy"].notna() & ended(runs)
    groups = runs[scored & (runs["control"] == "none")].groupby(by)
    cells = groups["native_accuracy"].agg(["count", "mean", "std"])
    cells["half"] = half_width(cells["std"], cells["count"])
    cells.insert(0, "native_density", groups["native_density"].mean())
    return cells.rename(columns={"count": "n"}).drop(columns="std").reset_index()


def _places(cells: pd.DataFrame) -> pd.Series:
    by = [*TRACK, "density_asked"]
    rising = [*[True] * len(by), False, True]
    # Equal means are sorted by label, so that the order of the records has no effect.
    order = cells.sort_values([*by, "accuracy_mean", "method_label"], ascending=rising)
    which = order.groupby(by).ngroup().tolist()
    means, halves = order["accuracy_mean"].tolist(), order["accuracy_half"].tolist()
    places = list(_walk(which, means, halves))
    return pd.Series(places, index=order.index, dtype="int64").reindex(cells.index)


def _walk(which: list[int], means: list[float], halves: list[float]) -> Iterator[int]:
    """Yield the places of cells that are sorted by table and, within a table, by falling mean."""
    current, ahead, place, low = -1, 0, 0, 0.0
    for table, mean, half in zip(which, means, halves, strict=True):
        if table != current:
            current, ahead, place = table, 0, 0
        # Each cell is compared with the best of its group, so that overlaps do not form a chain.
        if not place or mean + half < low - ROUNDING:  # touching intervals overlap
            place, low = ahead + 1, mean - half
        ahead += 1
        yield place

"""The order of rows in a table, and which of them have a rank."""

import math

import pandas as pd

from paibench.leaderboard.stats.summary import TRACK, ended, intervals


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


def endpoint_by_row(cells: pd.DataFrame) -> dict[str, float]:
    """Return the mean log-odds over the densities of `random` by the column `row` of cells.

    A row is left out if it lacks one of these densities, or a run that was asked for at one.
    """
    pruned = cells[cells["density_asked"] < 1]
    grid = pruned.loc[pruned["row"] == "random", "density_asked"]
    on_grid = pruned[pruned["density_asked"].isin(grid) & ~incomplete(pruned)]
    means = on_grid.groupby("row")["accuracy_log_odds"].agg(["count", "mean"])
    whole = means.loc[means["count"] == len(grid), "mean"]
    return {str(name): float(mean) for name, mean in whole.items()}


def ranked(cells: pd.DataFrame) -> list[str]:
    """Return the names in the column `row`: dense, random, then by endpoint, the best first.

    Rows without an endpoint follow, by mean at the median density; a row that lost runs there comes
    after those that lost none, since the mean of the runs that succeeded is too favourable. Rows
    with tickets not at initialization come last.
    """
    endpoints = endpoint_by_row(cells)
    at_middle = cells[cells["density_asked"] == median_density(cells)]
    means = at_middle.set_index("row")["accuracy_mean"]
    whole = set(at_middle.loc[~incomplete(at_middle), "row"])
    late = rewound_rows(cells)

    def sort_key(name: str) -> tuple[bool, bool, bool, float, bool, float, str]:
        mean = means.get(name, math.nan)
        # NaN would leave the order undefined.
        fallen = math.inf if math.isnan(mean) else -mean
        endpoint = -endpoints.get(name, -math.inf)
        first = (name != "dense", name != "random", name in late)
        return *first, endpoint, name not in whole, fallen, name

    return sorted(cells["row"].unique(), key=sort_key)


def rankable(cells: pd.DataFrame) -> pd.Series:
    """Return which cells have a rank: all but dense, controls, and tickets not at initialization.

    `random` is ranked among the methods, so that a reader sees which of them are below it.
    """
    # One such ticket is enough: a row is ranked as a whole or not at all.
    row = [cells[name] for name in (*TRACK, "method_label", "control")]
    late = cells["not_at_initialization"].gt(0).groupby(row).transform("any")
    return (cells["control"] == "none") & (cells["method"] != "dense") & ~late


def supermasks(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of supermasks as their own search would deploy them, without training.

    A row per track, method and density asked, with `native_density`, the mean of the densities that
    the searches reached, and `n`, `mean`, `low` and `high` of `native_accuracy`. They are not
    ranked, since their densities are not those that were asked for.
    """
    by = [*TRACK, "method", "method_label", "density_asked"]
    scored = runs["native_accuracy"].notna() & ended(runs)
    own = runs[scored & (runs["control"] == "none")]
    cells = own.groupby(by)[["native_density", "native_accuracy"]].mean()
    cells = cells.rename(columns={"native_accuracy": "mean"})
    of_mean = intervals(own, "native_accuracy", by).drop(columns="log_odds")
    return cells.join(of_mean).reset_index()

"""Pareto-optimal cells: the best trade-offs of accuracy, sparsity and cost of the search."""

import numpy as np
import pandas as pd

from paibench.benchmark.record import RANDOM_FLOORS
from paibench.leaderboard.stats.ranking import incomplete, rankable
from paibench.leaderboard.stats.summary import TRACK

_ABOVE_CHANCE = 1.5


def pareto(cells: pd.DataFrame) -> pd.Series:
    """Return which cells no other cell dominates.

    A cell dominates another if it is at least as good in accuracy (`accuracy_mean`), sparsity
    (`density_asked`) and cost of the search (`search_epochs`), and better in one of them. A cell
    that lacks one of the three, or a run that was asked for, is not compared. Pass cells of one
    track and class.
    """
    costs = pd.DataFrame(
        {
            "accuracy": -cells["accuracy_mean"].astype("float64"),
            "density": cells["density_asked"].astype("float64"),
            "search": cells["search_epochs"].astype("float64"),
        }
    )
    fit = costs.notna().all(axis=1) & ~incomplete(cells)
    points = costs[fit].to_numpy()
    best = np.ones(len(points), dtype=bool)
    for index, point in enumerate(points):  # one row at a time: memory grows with n, not n squared
        best[index] = not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
    front = pd.Series(False, index=cells.index)
    front[fit] = best
    return front


def pareto_by_track(cells: pd.DataFrame) -> pd.Series:
    """Return which of the cells of all tracks are Pareto-optimal among those that may be ranked.

    A cell near chance shows no trade-off, however cheap it is, so it is not optimal.
    """
    own = cells[rankable(cells) & (cells["density_asked"] < 1) & ~near_chance(cells)]
    fronts = [pareto(part) for _, part in own.groupby(TRACK)]
    front = pd.concat(fronts) if fronts else pd.Series(dtype="bool")
    return front.reindex(cells.index, fill_value=False).astype("bool")


def near_chance(cells: pd.DataFrame) -> pd.Series:
    """Return which cells are not clearly above the untrained accuracy of random masks.

    Chance is the mean of that accuracy over the random floors of the track. A network that always
    answers with the commonest class can be a little above it, so a cell must have the lower end of
    its interval above 1.5 times chance. A track without random floors has no such cells.
    """
    floors = cells[cells["method_label"].isin(RANDOM_FLOORS) & (cells["control"] == "none")]
    chance = floors.groupby(TRACK)["accuracy_untrained_mean"].mean().rename("chance")
    low = cells["accuracy_low"].fillna(cells["accuracy_mean"])
    limits = cells[TRACK].merge(chance, left_on=TRACK, right_index=True, how="left")["chance"]
    return low <= _ABOVE_CHANCE * limits.set_axis(cells.index)

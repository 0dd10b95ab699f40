"""The ranks that a method may have among all methods of a table, by comparisons of all pairs.

A method is better than another if the test of Games and Howell, on log-odds, says so. Its rank set
runs from 1 + the number of better methods to the number of all minus that of worse ones.
"""

import numpy as np
import pandas as pd

from paibench.benchmark.record import FEWEST_SEEDS
from paibench.leaderboard.stats.floors import ROW, endpoints, grid, measured
from paibench.leaderboard.stats.log_odds import rank_sets, sample_of, samples
from paibench.leaderboard.stats.summary import TRACK

RANKS = ["best_rank", "worst_rank", "ranked_of"]


def pool(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that are ranked: one configuration of each method, and both random floors.

    The configuration is the default one, or, of a method that has only others, the first by name.
    Controls, dense, and methods with a ticket that starts from trained weights are not ranked.
    """
    own = runs[(runs["control"] == "none") & (runs["method"] != "dense")]
    late = ~own["at_initialization"].fillna(True).astype("bool")
    rows = [*TRACK, "method_label"]
    own = own[~late.groupby([own[name] for name in rows]).transform("any")]
    # the default has no options, so that its label is a prefix of the others and sorts first
    first = own.groupby([*TRACK, "method"])["method_label"].transform("min")
    return own[(own["method_label"] == first) | (own["method_label"] == "random(layers=erk)")]


def rank_set(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rank sets of the endpoint, a row per method, and of every density.

    Columns: those of `ROW` (and `density_asked`); `n`; `best_rank` and `worst_rank` among
    `ranked_of` methods; and `provisional` for fewer than five runs. A single run has no row.
    """
    values = measured(pool(runs))
    whole = endpoints(values, grid(runs))
    return (
        _ranked(samples(whole, ROW), TRACK),
        _ranked(samples(values, [*ROW, "density_asked"]), [*TRACK, "density_asked"]),
    )


def _ranked(cells: pd.DataFrame, table: list[str]) -> pd.DataFrame:
    frame = cells[cells["n"] > 1].reset_index()
    ranks = pd.DataFrame(0, index=frame.index, columns=RANKS, dtype="Int64")
    for rows in frame.groupby(table).groups.values():
        best, worst = rank_sets(sample_of(frame.loc[rows]))
        ranks.loc[rows, RANKS] = np.stack([best, worst, np.full(len(rows), len(rows))], axis=1)
    frame = frame.join(ranks).assign(provisional=frame["n"] < FEWEST_SEEDS)
    return frame.drop(columns=["mean", "variance"])

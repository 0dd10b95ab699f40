"""The ranks that a method may have among all methods of a table, by comparisons of all pairs.

A method is better than another if the test of Games and Howell, on log-odds, says so. Its rank set
runs from 1 + the number of better methods to the number of all minus that of worse ones.
"""

import pandas as pd

from paibench.leaderboard.stats.floors import FEWEST, ROW, endpoints, grid, measured
from paibench.leaderboard.stats.log_odds import Sample, rank_sets, samples
from paibench.leaderboard.stats.summary import TRACK


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

    Columns: those of `ROW` (and `density_asked`), `n`, `best` and `worst` rank, `of` so many, and
    `provisional` for fewer than five runs. Methods with one run are left out.
    """
    values = measured(pool(runs))
    whole = endpoints(values, grid(runs))
    return (
        _ranked(samples(whole, ROW), TRACK),
        _ranked(samples(values, [*ROW, "density_asked"]), [*TRACK, "density_asked"]),
    )


def _ranked(cells: pd.DataFrame, table: list[str]) -> pd.DataFrame:
    frame = cells[cells["n"] > 1].reset_index()
    frame[["best", "worst", "of"]] = 0
    for rows in frame.groupby(table).groups.values():
        part = frame.loc[rows, ["n", "mean", "variance"]].to_numpy(dtype="float64")
        best, worst = rank_sets(Sample(*part.T))
        frame.loc[rows, "best"], frame.loc[rows, "worst"] = best, worst
        frame.loc[rows, "of"] = len(rows)
    frame["provisional"] = frame["n"] < FEWEST
    return frame.drop(columns=["mean", "variance"])

"""Each method against both random floors: on its endpoint first, then at each density.

All tests are Welch's, on log-odds, see `log_odds`. A method beats random pruning if it beats
`random` and `random(layers=erk)`, so the larger of the two p values counts (an intersection-union
test, which needs no correction). The endpoint is tested first. Only if it is significant are the
densities tested, corrected by Holm within the method. So a false claim about a method has a
probability of 5 %, whatever else is on the board.
"""

import numpy as np
import pandas as pd

from paibench.benchmark.record import FEWEST_SEEDS, RANDOM_FLOORS
from paibench.leaderboard.stats.log_odds import (
    ALPHA,
    Sample,
    accuracy_of,
    in_points,
    interval,
    on_scale,
    sample_of,
    samples,
    welch,
)
from paibench.leaderboard.stats.summary import TRACK, ended

FLOORS = dict(zip(RANDOM_FLOORS, ("random_", "erk_"), strict=True))
"""The method labels of the random floors, and the prefixes of their columns.

With quotas after Erdos-Renyi, random masks are much better than without at low densities.
"""
ROW = [*TRACK, "method", "method_label", "control"]
OUTCOMES = {
    "better": "beats both random floors",
    "floor": "beats random, and is the other floor",
    "worse": "worse than both random floors",
    "between": "beats one random floor, and is worse than the other",
    "not significant": "no significant difference from random",
    "not tested": "not tested, because the endpoint is not significant",
    "no endpoint": "not tested, because a density of the grid is missing",
    "too few seeds": "too few seeds",
}


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the pruned runs that have an accuracy, with `log_odds` and `least`."""
    own = runs[ended(runs) & runs["accuracy"].notna() & (runs["density_asked"] < 1)]
    values = on_scale(own["accuracy"], own["test_examples"])
    return pd.concat([own[[*ROW, "density_asked", "seed"]], values], axis=1)


def grid(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the densities of each track over which endpoints are taken: those of `random`.

    Their `weight` is one over their number. The rows of `random` are the maintainers', so that no
    submission changes the endpoint of another method.
    """
    floor = (runs["method_label"] == "random") & (runs["control"] == "none")
    pruned = runs.loc[floor & (runs["density_asked"] < 1), [*TRACK, "density_asked"]]
    densities = pruned.drop_duplicates()
    return densities.assign(weight=1 / densities.groupby(TRACK)["density_asked"].transform("size"))


def endpoints(values: pd.DataFrame, densities: pd.DataFrame) -> pd.DataFrame:
    """Return the weighted log-odds over a grid of each row and seed that has all its densities.

    `densities` has a `weight` for each density, which `grid` makes that of a mean. The accuracies
    of one seed are measured on the same images, so their errors may add up, and `least` is as large
    as if they did.
    """
    on_grid = values.merge(densities, on=[*TRACK, "density_asked"])
    on_grid["log_odds"] *= on_grid["weight"]
    on_grid["error"] = on_grid["weight"] * np.sqrt(on_grid["least"])
    groups = on_grid.groupby([*ROW, "seed"])
    sums = groups[["log_odds", "error"]].sum().assign(points=groups.size()).reset_index()
    asked = densities.groupby(TRACK).size().rename("asked")
    sums = sums.join(asked, on=TRACK)
    whole = sums[sums["points"] == sums["asked"]]
    return whole.assign(least=whole["error"] ** 2).drop(columns=["error", "points", "asked"])


def endpoint_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the endpoint of each row: `n`, and `accuracy` with its 95 % interval, `low`, `high`.

    It is the mean over seeds of `endpoints`, as an accuracy.
    """
    rows = samples(endpoints(measured(runs), grid(runs)), ROW).reset_index()
    low, high = interval(sample_of(rows))
    rows = rows.assign(accuracy=accuracy_of(rows["mean"]), low=low, high=high)
    return rows.drop(columns=["mean", "variance"])


def verdicts(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the endpoint of each row, and its cells, compared with both random floors.

    Both have a row per method that is no control and not `random`, the second one per density.
    Columns: `n`; `mean` of the log-odds; for each floor, with its prefix in `FLOORS`, `n` and `p`,
    and `difference`, `low` and `high`, in fractions of accuracy (see `in_points`); `p`, the larger
    of the two, of the endpoint as it is and of cells corrected by Holm; and `outcome`, a key of
    `OUTCOMES`. The floor with quotas is compared with `random` alone.
    """
    values = measured(runs)
    first = _compared(samples(endpoints(values, grid(runs)), ROW), TRACK)
    first["outcome"] = _outcomes(first)
    cells = _compared(samples(values, [*ROW, "density_asked"]), [*TRACK, "density_asked"])
    cells["p"] = holm(cells["p"], cells.groupby(ROW).ngroup())
    of_endpoint = cells[ROW].merge(first[[*ROW, "outcome"]], on=ROW, how="left")["outcome"]
    outcome = _outcomes(cells)
    open_ = of_endpoint.isin(["better", "floor", "worse", "between"])
    closed = of_endpoint.fillna("no endpoint").where(
        lambda key: key != "not significant", "not tested"
    )
    cells["outcome"] = outcome.where(open_ | (outcome == "too few seeds"), closed)
    return first, cells


def _compared(cells: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Compare samples, indexed by `ROW` and more, with the floors of equal values in `by`."""
    frame = cells.reset_index()
    own = frame[(frame["control"] == "none") & (frame["method_label"] != "random")]
    own = own.reset_index(drop=True)
    for label, prefix in FLOORS.items():
        floors = frame[(frame["method_label"] == label) & (frame["control"] == "none")]
        floor = own[by].merge(floors[[*by, *Sample._fields]], on=by, how="left")
        # no row is compared with itself
        floor = floor.mask(own["method_label"] == label)
        difference, base = welch(sample_of(own), sample_of(floor)), sample_of(floor)
        own[f"{prefix}n"] = floor["n"].fillna(0).astype("int64")
        for name, part in zip(
            ("difference", "low", "high"), in_points(difference, base), strict=True
        ):
            own[f"{prefix}{name}"] = part
        own[f"{prefix}p"] = difference.p
    both = ~own["method_label"].isin(list(FLOORS))
    own["p"] = np.where(both, np.maximum(own["random_p"], own["erk_p"]), own["random_p"])
    return own.drop(columns="variance")


def _outcomes(cells: pd.DataFrame) -> pd.Series:
    """Return the outcome of each row from `p` and its two differences."""
    both = ~cells["method_label"].isin(list(FLOORS))
    second = cells["erk_difference"].where(both, cells["random_difference"])
    least = np.minimum(cells["random_n"], cells["erk_n"].where(both, cells["random_n"]))
    significant = cells["p"] <= ALPHA
    keys = np.select(
        [
            np.minimum(cells["n"], least) < FEWEST_SEEDS,
            significant & ~both & (cells["random_difference"] > 0),
            significant & (cells["random_difference"] > 0) & (second > 0),
            significant & (cells["random_difference"] < 0) & (second < 0),
            significant,
        ],
        ["too few seeds", "floor", "better", "worse", "between"],
        "not significant",
    )
    return pd.Series(keys, index=cells.index, dtype="str")


def holm(p: pd.Series, family: pd.Series) -> pd.Series:
    """Return p values after Holm's step-down correction within each family; NaN does not count.

    Holm 1979, Scandinavian Journal of Statistics 6.
    """
    rising = p.dropna().sort_values(kind="stable")
    which = family.loc[rising.index]
    ordered = rising.groupby(which)
    scaled = rising * (ordered.transform("size") - ordered.cumcount())
    # Holm's test stops at the first p that is too large, so corrected values never fall.
    corrected: pd.Series = scaled.groupby(which).cummax().clip(upper=1.0)
    return corrected.reindex(p.index)

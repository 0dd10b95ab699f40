"""Numbers for a whole row: its critical sparsity in two forms, and its area above random.

All means, intervals and tests are of log-odds, see `log_odds`.
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from paibench.leaderboard.stats.log_odds import (
    ALPHA,
    accuracy_of,
    log_odds,
    sample_of,
    samples,
    sampling_variance,
    welch,
)
from paibench.leaderboard.stats.summary import CELL, POINT, ROUNDING, TRACK, ended

ERROR_FACTOR = 1.2
"""How many times the error of dense is still close to dense, in the relative form.

A convention, decided before it was computed for any result. One point alone does not serve all
tracks: it doubles the error if dense has 99 %, and adds a fortieth to it if dense has 60 %.
"""
NO_DENSE = "no dense reference with all its runs"
NO_FLOOR = "no random floor with all its runs at two densities or more"
NO_ROOM = "random is as good as dense"
LOST_AT_FLOOR = "runs are missing at a density of random"
LOST_AT_DENSEST = "runs are missing at the densest"
BELOW = "more than one point below dense at the densest"
LARGER_ERROR = f"more than {ERROR_FACTOR} times the error of dense at the densest"
_ROW = [*TRACK, "method", "method_label", "control"]


def critical_sparsity(runs: pd.DataFrame) -> pd.DataFrame:
    """Return critical densities and area of each row, that is of a method and control in a track.

    Columns, beside those that name the row:
    - `n`, the least number of runs behind a mean of the row, of dense or of random;
    - `critical_density`, the lowest density at which the mean, and the means at all higher
      densities, are at most one point below dense; `critical_beyond`, whether it is the lowest
      density of the row, so that the true value may be lower;
    - `critical_sure`, the lowest density down to which this is shown at every density, and
      `critical_possible`, the lowest one down to which the opposite is shown at none, by 95 %
      intervals of Welch's test. Both are NaN if dense or the densest cell has a single run;
    - `relative_density`, `relative_beyond`, `relative_sure` and `relative_possible`, the same for
      errors of at most `ERROR_FACTOR` times the error of dense;
    - `area`, the area under the mean log-odds against log density, over the densities of random,
      scaled so that 0 is random and 1 is dense at every density; `area_low` and `area_high`, the
      ends of its 95 % interval. `random` itself has none.

    Only cells count that are complete, that is have the accuracy of every run that was asked for.
    If there is no number, `critical_reason`, `relative_reason` or `area_reason` says why;
    otherwise they are "".
    """
    cells = _cells(runs)
    own = cells["control"] == "none"
    dense = cells[own & (cells["method"] == "dense") & (cells["density_asked"] == 1)]
    pruned = cells[(cells["method"] != "dense") & (cells["density_asked"] < 1)].copy()
    pruned["track"] = pruned.groupby(TRACK).ngroup()
    pruned["row"] = pruned.groupby(_ROW).ngroup()
    pruned = pruned.sort_values(["row", "density_asked"], ascending=[True, False])
    of_dense = dense.set_index(TRACK)[["n", "mean", "variance"]].add_prefix("dense_")
    pruned = pruned.join(of_dense, on=TRACK)
    densest = pruned.drop_duplicates("row").set_index("row")
    floor = pruned[(pruned["control"] == "none") & (pruned["method_label"] == "random")]
    rows = densest[_ROW].assign(n=_least_n(pruned, floor))
    rows = rows.join(_critical(pruned, densest)).join(_area(densest, pruned, floor))
    return rows.reset_index(drop=True)


def _cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `n` of each cell, and `mean` and `variance` of log-odds if the cell is complete."""
    accuracy = runs["accuracy"].astype("float64").where(ended(runs))
    examples = runs["test_examples"].astype("float64")
    # A number groups runs several times faster than ten columns of text.
    values = pd.DataFrame(
        {
            "cell": runs.groupby(CELL).ngroup(),
            "log_odds": log_odds(accuracy, examples),
            "least": sampling_variance(accuracy, examples),
        },
        index=runs.index,
    )
    names = runs[CELL].assign(cell=values["cell"]).drop_duplicates("cell").set_index("cell")
    cells = names.join(samples(values, ["cell"])).assign(runs=values.groupby("cell").size())
    complete = cells["n"] == cells.pop("runs")
    return cells.assign(**{name: cells[name].where(complete) for name in ("mean", "variance")})


def _least_n(pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.Series:
    """Return the least number of runs behind a mean that a row is compared with or consists of."""
    of_floor = pruned["track"].map(floor.groupby("track")["n"].min())
    numbers = pruned[["n", "dense_n"]].assign(floor_n=of_floor)
    return numbers.min(axis=1).groupby(pruned["row"]).min().astype("int64")


def _critical(pruned: pd.DataFrame, densest: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of both forms of each row, from cells in order of falling density."""
    difference = welch(sample_of(pruned), sample_of(pruned, "dense_"))
    error = 1 - accuracy_of(pruned["dense_mean"])
    lowest = pruned["density_asked"].groupby(pruned["row"]).min()
    single = (densest["n"] < 2) | ~(densest["dense_n"] > 1)
    columns = {}
    for form, largest, why in (
        ("critical", error + POINT, BELOW),
        ("relative", error * ERROR_FACTOR, LARGER_ERROR),
    ):
        # If dense is so bad that even an error of 1 is allowed, the margin is infinite. The half
        # example of `log_odds` makes a difference of exactly one point slightly less, so that
        # rounding decides nothing.
        margin = pruned["dense_mean"] + special.logit(np.minimum(largest, 1))
        room = difference.value + margin
        density = _down_to(pruned, room >= 0)
        columns[f"{form}_density"] = density
        columns[f"{form}_beyond"] = density == lowest
        columns[f"{form}_sure"] = _down_to(pruned, room - difference.half >= 0)
        # A single run shows nothing, so that `half` is NaN. A gap has no mean and ends the search.
        outside = room + difference.half < 0
        columns[f"{form}_possible"] = _down_to(pruned, room.notna() & ~outside).mask(single)
        reason = np.select(
            [densest["dense_mean"].isna(), density.notna(), densest["mean"].isna()],
            [NO_DENSE, "", LOST_AT_DENSEST],
            why,
        )
        columns[f"{form}_reason"] = pd.Series(reason, index=density.index, dtype="str")
    return pd.DataFrame(columns)


def _down_to(pruned: pd.DataFrame, holds: pd.Series) -> pd.Series:
    """Return the lowest density of each row at which this holds, as it does at all higher ones."""
    # A later recovery does not count.
    still = holds.astype("int64").groupby(pruned["row"]).cummin() == 1
    return pruned["density_asked"].where(still).groupby(pruned["row"]).min()


def _area(densest: pd.DataFrame, pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """Return the area of each row and its interval, by the trapezoid rule over random's densities.

    It is R = (A_m - A_r) / (A_d - A_r), with the areas A under method, random and dense.
    """
    grid = _grid(densest, pruned, floor)
    gain = _total(grid, grid["weight"] * (grid["mean"] - grid["floor_mean"]), densest)
    room = _total(grid, grid["weight"] * (grid["dense_mean"] - grid["floor_mean"]), densest)
    points = grid.groupby("row")[["floor_mean", "mean"]].count()
    points["asked"] = grid.groupby("row").size()
    points = points.reindex(densest.index, fill_value=0)
    why = np.select(
        [
            densest["dense_mean"].isna(),
            (points["asked"] < 2) | (points["floor_mean"] < points["asked"]),
            points["mean"] < points["asked"],
            room <= ROUNDING,
        ],
        [NO_DENSE, NO_FLOOR, LOST_AT_FLOOR, NO_ROOM],
        "",
    )
    reason = pd.Series(why, index=densest.index, dtype="str")
    room = room.where(reason == "")
    area = gain / room
    half = _half_of_area(grid, area, room, densest)
    # Compared with itself, random would seem to have an error.
    half = half.mask((densest["method_label"] == "random") & (densest["control"] == "none"))
    columns = {"area": area, "area_low": area - half, "area_high": area + half}
    return pd.DataFrame(columns | {"area_reason": reason})


def _grid(densest: pd.DataFrame, pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of each row at the densities of random, beside those of random.

    `weight` is that of the density in an area by the trapezoid rule over log10 density: half the
    distance between its neighbours, or from an end to its neighbour. On these densities, all rows
    of a track have the same range.
    """
    numbers = ["n", "mean", "variance"]
    at = floor[["track", "density_asked"]].join(floor[numbers].add_prefix("floor_"))
    x = -np.log10(at["density_asked"])
    gaps = x.groupby(at["track"]).diff()  # NaN at the densest
    after = gaps.groupby(at["track"]).shift(-1)
    at["weight"] = (gaps.fillna(0) + after.fillna(0)) / 2
    grid = densest[["track", "dense_mean"]].reset_index().merge(at, on="track")
    cells = pruned[["row", "density_asked", *numbers]]
    return grid.merge(cells, on=["row", "density_asked"], how="left")


def _half_of_area(
    grid: pd.DataFrame, area: pd.Series, room: pd.Series, densest: pd.DataFrame
) -> pd.Series:
    """Return half the width of the 95 % interval of each area, by the delta method.

    The derivatives of R by A_m, A_r and A_d are 1, R - 1 and -R, all over the room A_d - A_r. Each
    A is a weighted sum of the means of cells, which are taken as independent; dense is one cell
    times the whole range. The degrees of freedom are those of Satterthwaite 1946.
    """
    own, scale = grid["row"].map(area), grid["weight"] / grid["row"].map(room)
    of_method = scale**2 * grid["variance"] / grid["n"]
    of_floor = ((own - 1) * scale) ** 2 * grid["floor_variance"] / grid["floor_n"]
    width = _total(grid, grid["weight"], densest)
    of_dense = (area * width / room) ** 2 * densest["dense_variance"] / densest["dense_n"]
    variance = _total(grid, of_method + of_floor, densest) + of_dense
    squares = of_method**2 / (grid["n"] - 1) + of_floor**2 / (grid["floor_n"] - 1)
    least = _total(grid, squares, densest) + of_dense**2 / (densest["dense_n"] - 1)
    half: pd.Series = np.sqrt(variance) * stats.t.ppf(1 - ALPHA / 2, variance**2 / least)
    return half


def _total(grid: pd.DataFrame, values: pd.Series, densest: pd.DataFrame) -> pd.Series:
    """Return the sum over the grid of each row; unlike that of pandas, NaN if any value is."""
    row = grid["row"].to_numpy(dtype="int64")
    weights = values.to_numpy(dtype="float64")
    return pd.Series(np.bincount(row, weights, minlength=len(densest)), index=densest.index)

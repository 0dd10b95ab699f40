"""Numbers for a whole row: its critical sparsity in two forms, and its area above random.

All means, intervals and tests are of log-odds, see `log_odds`.
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from paibench.leaderboard.stats.floors import ROW, endpoints, measured
from paibench.leaderboard.stats.log_odds import (
    ALPHA,
    Sample,
    accuracy_of,
    on_scale,
    sample_of,
    samples,
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
    pruned["row"] = pruned.groupby(ROW).ngroup()
    pruned = pruned.sort_values(["row", "density_asked"], ascending=[True, False])
    of_dense = dense.set_index(TRACK)[["n", "mean", "variance"]].add_prefix("dense_")
    pruned = pruned.join(of_dense, on=TRACK)
    densest = pruned.drop_duplicates("row").set_index("row")
    floor = pruned[(pruned["control"] == "none") & (pruned["method_label"] == "random")]
    rows = densest[ROW].assign(n=_least_n(pruned, floor))
    rows = rows.join(_critical(pruned, densest)).join(_area(densest, pruned, floor, runs))
    return rows.reset_index(drop=True)


def _cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `n` of each cell, and `mean` and `variance` of log-odds if the cell is complete."""
    values = on_scale(runs["accuracy"].where(ended(runs)), runs["test_examples"])
    # A number groups runs several times faster than ten columns of text.
    values["cell"] = runs.groupby(CELL).ngroup()
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


def _area(
    densest: pd.DataFrame, pruned: pd.DataFrame, floor: pd.DataFrame, runs: pd.DataFrame
) -> pd.DataFrame:
    """Return the area of each row and its interval, by the trapezoid rule over random's densities.

    It is R = (A_m - A_r) / (A_d - A_r), with the areas A under method, random and dense. Each seed
    has its own A, so that results of one seed at several densities need not be independent. The
    interval is that of the delta method: the derivatives of R by A_m, A_r and A_d are 1, R - 1 and
    -R, all over the room A_d - A_r. The degrees of freedom are those of Satterthwaite 1946.
    """
    weights = _weights(floor)
    by_seed = endpoints(measured(runs), weights)
    areas = densest[ROW].join(samples(by_seed, ROW), on=ROW)
    of_floor = areas.loc[floor["row"].unique()].set_index(TRACK)[[*Sample._fields]]
    areas = areas.join(of_floor.add_prefix("floor_"), on=TRACK)
    width = densest["track"].map(weights.groupby(floor["track"])["weight"].sum())
    gain = areas["mean"] - areas["floor_mean"]
    room = width * densest["dense_mean"] - areas["floor_mean"]
    reason = _why_no_area(densest, pruned, floor, gain, room)
    room = room.where(reason == "")
    area = gain / room
    errors = [
        (areas["variance"], areas["n"]),
        ((area - 1) ** 2 * areas["floor_variance"], areas["floor_n"]),
        ((area * width) ** 2 * densest["dense_variance"], densest["dense_n"]),
    ]
    parts = [variance / n / room**2 for variance, n in errors]
    least = sum(part**2 / (n - 1) for part, (_, n) in zip(parts, errors, strict=True))
    total = sum(parts)
    half = np.sqrt(total) * stats.t.ppf(1 - ALPHA / 2, total**2 / least)
    # Compared with itself, random would seem to have an error.
    half = half.mask((densest["method_label"] == "random") & (densest["control"] == "none"))
    columns = {"area": area, "area_low": area - half, "area_high": area + half}
    return pd.DataFrame(columns | {"area_reason": reason})


def _weights(floor: pd.DataFrame) -> pd.DataFrame:
    """Return the `weight` of each density of random in an area over log10 density.

    By the trapezoid rule, it is half the distance between its neighbours, or from an end to its
    neighbour. On these densities, all rows of a track have the same range.
    """
    gaps = (-np.log10(floor["density_asked"])).groupby(floor["track"]).diff()  # NaN at the densest
    after = gaps.groupby(floor["track"]).shift(-1)
    weight = (gaps.fillna(0) + after.fillna(0)) / 2
    return floor[[*TRACK, "density_asked"]].assign(weight=weight)


def _why_no_area(
    densest: pd.DataFrame,
    pruned: pd.DataFrame,
    floor: pd.DataFrame,
    gain: pd.Series,
    room: pd.Series,
) -> pd.Series:
    grid = (
        densest[["track"]]
        .reset_index()
        .merge(
            floor[["track", "density_asked", "mean"]].rename(columns={"mean": "floor"}), on="track"
        )
    )
    grid = grid.merge(
        pruned[["row", "density_asked", "mean"]], on=["row", "density_asked"], how="left"
    )
    points = grid.groupby("row")[["floor", "mean"]].count()
    points["asked"] = grid.groupby("row").size()
    points = points.reindex(densest.index, fill_value=0)
    why = np.select(
        [
            densest["dense_mean"].isna(),
            (points["asked"] < 2) | (points["floor"] < points["asked"]),
            (points["mean"] < points["asked"]) | gain.isna(),
            room <= ROUNDING,
        ],
        [NO_DENSE, NO_FLOOR, LOST_AT_FLOOR, NO_ROOM],
        "",
    )
    return pd.Series(why, index=densest.index, dtype="str")

"""Two numbers for a whole row: its critical sparsity, and its area between random and dense."""

import numpy as np
import pandas as pd

from paibench.leaderboard.stats.ranking import incomplete
from paibench.leaderboard.stats.summary import POINT, ROUNDING, TRACK

NO_DENSE = "no dense reference with all its runs"
NO_FLOOR = "no random floor with all its runs at two densities or more"
NO_ROOM = "random is as good as dense"
LOST_AT_FLOOR = "runs are missing at a density of random"
LOST_AT_DENSEST = "runs are missing at the densest"
BELOW = "more than one point below dense at the densest"
_ROW = [*TRACK, "method", "method_label", "control"]


def critical_sparsity(cells: pd.DataFrame) -> pd.DataFrame:
    """Return critical density and area of each row, that is of a method and control in a track.

    `critical_density` is the lowest density at which the mean, and the means at all higher
    densities, are at most one point below dense. `beyond` is true if it is the lowest density of
    the row, so that the true value may be lower. `area` is the area under the mean against log
    density, over the densities of random, scaled so that 0 is random and 1 is dense at every
    density. Only means of complete cells count. `n` is the least number of runs behind a mean of
    the row, of dense or of random. If there is no number, `critical_reason` or `area_reason` says
    why; otherwise they are "".
    """
    own = cells["control"] == "none"
    dense = _means(cells[own & (cells["method"] == "dense")]).set_index(TRACK)
    pruned = _means(cells[(cells["method"] != "dense") & (cells["density_asked"] < 1)])
    pruned["row"] = pruned.groupby(_ROW).ngroup()
    pruned = pruned.sort_values(["row", "density_asked"], ascending=[True, False])
    pruned = pruned.join(dense[["mean", "n"]].add_prefix("dense_"), on=TRACK)
    rows = pruned.drop_duplicates("row").set_index("row")[[*_ROW, "dense_mean"]]
    floor = pruned[(pruned["control"] == "none") & (pruned["method_label"] == "random")]
    rows["n"] = _least_n(pruned, floor)
    rows = rows.join(_critical_density(pruned)).join(_area(rows, pruned, floor))
    return rows.drop(columns="dense_mean").reset_index(drop=True)


def _means(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the row, density and n of each cell, and its mean if the cell is complete."""
    whole = ~incomplete(cells) & (cells["accuracy_n"] > 0)
    means = cells[[*_ROW, "density_asked"]].assign(n=cells["accuracy_n"])
    return means.assign(mean=cells["accuracy_mean"].where(whole))


def _least_n(pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.Series:
    """Return the least number of runs behind a mean that a row is compared with or consists of."""
    of_floor = floor.groupby(TRACK)["n"].min().rename("floor_n")
    numbers = pruned.join(of_floor, on=TRACK)[["n", "dense_n", "floor_n"]]
    return numbers.min(axis=1).groupby(pruned["row"]).min().astype("int64")


def _critical_density(pruned: pd.DataFrame) -> pd.DataFrame:
    """Return the critical density of each row, from cells in order of falling density."""
    row = pruned["row"]
    # Without `ROUNDING`, 0.89 could be more than one point below 0.90.
    within = pruned["mean"] >= pruned["dense_mean"] - POINT - ROUNDING
    # A gap is not within, so the search ends there; a later recovery does not count.
    still_within = within.astype("int64").groupby(row).cummin() == 1
    density = pruned["density_asked"].where(still_within).groupby(row).min()
    densest = pruned.drop_duplicates("row").set_index("row")
    why = np.select(
        [densest["dense_mean"].isna(), density.notna(), densest["mean"].isna()],
        [NO_DENSE, "", LOST_AT_DENSEST],
        BELOW,
    )
    return pd.DataFrame(
        {
            "critical_density": density,
            "beyond": density == pruned["density_asked"].groupby(row).min(),
            "critical_reason": pd.Series(why, index=density.index, dtype="str"),
        }
    )


def _area(rows: pd.DataFrame, pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """Return the area of each row, by the trapezoid rule over the densities of random."""
    at = floor[[*TRACK, "density_asked", "mean"]].rename(columns={"mean": "floor"})
    # On the densities of random, all rows of a track are measured over the same range.
    grid = rows[[*TRACK, "dense_mean"]].reset_index().merge(at, on=TRACK)
    means = pruned[["row", "density_asked", "mean"]]
    grid = grid.merge(means, on=["row", "density_asked"], how="left")
    grid = grid.sort_values(["row", "density_asked"], ascending=[True, False])
    width = (-np.log10(grid["density_asked"])).groupby(grid["row"]).diff()  # NaN at the densest

    def under(heights: pd.Series) -> pd.Series:
        strips = width * (heights + heights.shift()) / 2
        # Without any strip the area is unknown, and `sum` alone would give 0.
        area: pd.Series = strips.groupby(grid["row"]).sum(min_count=1).reindex(rows.index)
        return area

    gain, room = under(grid["mean"] - grid["floor"]), under(grid["dense_mean"] - grid["floor"])
    points = grid.groupby("row")[["floor", "mean"]].count()
    points["asked"] = grid.groupby("row").size()
    points = points.reindex(rows.index, fill_value=0)
    why = np.select(
        [
            rows["dense_mean"].isna(),
            (points["asked"] < 2) | (points["floor"] < points["asked"]),
            points["mean"] < points["asked"],
            room <= ROUNDING,
        ],
        [NO_DENSE, NO_FLOOR, LOST_AT_FLOOR, NO_ROOM],
        "",
    )
    reason = pd.Series(why, index=rows.index, dtype="str")
    return pd.DataFrame({"area": (gain / room).where(reason == ""), "area_reason": reason})

"""One number for a whole row: how sparse it stays as good as dense, and how far above random."""

import numpy as np
import pandas as pd

from paibench.leaderboard.stats.ranking import incomplete
from paibench.leaderboard.stats.summary import TRACK

POINT = 0.01
NO_DENSE = "no dense reference with all its runs"
NO_FLOOR = "no random floor with all its runs at two densities or more"
NO_ROOM = "random is as good as dense"
LOST_AT_FLOOR = "runs are missing at a density of random"
LOST_AT_DENSEST = "runs are missing at the densest"
BELOW = "more than one point below dense at the densest"
_ROW = [*TRACK, "method", "method_label", "control"]
_SAME = 1e-12  # differences of floats that should be equal


def critical_sparsity(cells: pd.DataFrame) -> pd.DataFrame:
    """Critical density and area of each row: per track, method and control, dense left out.

    `critical_density` is the sparsest density asked for whose mean is at most one point below
    dense, as are those of all denser ones; `beyond` says that it is the sparsest of the row, so
    that the true one may be sparser. `area` is that under the mean against log density over the
    densities of random: 0 is random's, 1 is dense's at every density. Only means of whole cells
    count. `n` is the least number of runs behind a mean of the row, of dense or of random. Where
    there is no number, the column of the same name with `_reason` says why; else that is "".
    """
    own = cells["control"] == "none"
    dense = _means(cells[own & (cells["method"] == "dense")]).set_index(TRACK)
    pruned = _means(cells[(cells["method"] != "dense") & (cells["density_asked"] < 1)])
    pruned["row"] = pruned.groupby(_ROW).ngroup()
    pruned = pruned.sort_values(["row", "density_asked"], ascending=[True, False])
    pruned = pruned.join(dense[["mean", "n"]].add_prefix("dense_"), on=TRACK)
    found = pruned.drop_duplicates("row").set_index("row")[[*_ROW, "dense_mean"]]
    floor = pruned[(pruned["control"] == "none") & (pruned["method_label"] == "random")]
    found["n"] = _least(pruned, floor)
    found = found.join(_critical_density(pruned)).join(_area(found, pruned, floor))
    return found.drop(columns="dense_mean").reset_index(drop=True)


def _means(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows, densities, numbers of runs, and means where the cell is whole."""
    whole = ~incomplete(cells) & (cells["accuracy_n"] > 0)
    found = cells[[*_ROW, "density_asked"]].assign(n=cells["accuracy_n"])
    return found.assign(mean=cells["accuracy_mean"].where(whole))


def _least(pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.Series:
    """The least number of runs behind a mean that a row is judged by."""
    of_floor = floor.groupby(TRACK)["n"].min().rename("floor_n")
    numbers = pruned.join(of_floor, on=TRACK)[["n", "dense_n", "floor_n"]]
    return numbers.min(axis=1).groupby(pruned["row"]).min().astype("int64")


def _critical_density(pruned: pd.DataFrame) -> pd.DataFrame:
    """The critical density of each row, from cells of falling density."""
    row = pruned["row"]
    within = pruned["mean"] >= pruned["dense_mean"] - POINT - _SAME
    held = within.astype("int64").groupby(row).cummin() == 1
    density = pruned["density_asked"].where(held).groupby(row).min()
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


def _area(found: pd.DataFrame, pruned: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """The area of each row, by the trapezoid rule over the densities of its track's floor."""
    at = floor[[*TRACK, "density_asked", "mean"]].rename(columns={"mean": "floor"})
    grid = found[[*TRACK, "dense_mean"]].reset_index().merge(at, on=TRACK)
    means = pruned[["row", "density_asked", "mean"]]
    grid = grid.merge(means, on=["row", "density_asked"], how="left")
    grid = grid.sort_values(["row", "density_asked"], ascending=[True, False])
    width = (-np.log10(grid["density_asked"])).groupby(grid["row"]).diff()  # none at the densest

    def under(heights: pd.Series) -> pd.Series:
        strips = width * (heights + heights.shift()) / 2
        area: pd.Series = strips.groupby(grid["row"]).sum(min_count=1).reindex(found.index)
        return area

    gain, room = under(grid["mean"] - grid["floor"]), under(grid["dense_mean"] - grid["floor"])
    points = grid.groupby("row")[["floor", "mean"]].count()
    points["asked"] = grid.groupby("row").size()
    points = points.reindex(found.index, fill_value=0)
    why = np.select(
        [
            found["dense_mean"].isna(),
            (points["asked"] < 2) | (points["floor"] < points["asked"]),
            points["mean"] < points["asked"],
            room <= _SAME,
        ],
        [NO_DENSE, NO_FLOOR, LOST_AT_FLOOR, NO_ROOM],
        "",
    )
    reason = pd.Series(why, index=found.index, dtype="str")
    return pd.DataFrame({"area": (gain / room).where(reason == ""), "area_reason": reason})

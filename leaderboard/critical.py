"""One number for a whole row: how sparse it stays as good as dense, and how far above random."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from paibench.leaderboard.rank import incomplete
from paibench.leaderboard.summary import TRACK

POINT = 0.01
_ROW = ["method", "method_label", "control"]
_SAME = 1e-12  # differences of floats that should be equal
COLUMNS = {
    **{name: "str" for name in TRACK[:-1]},
    "protocol": "Int64",
    **{name: "str" for name in _ROW},
    "n": "int64",
    "critical_density": "float64",
    "beyond": "bool",
    "critical_reason": "str",
    "area": "float64",
    "area_reason": "str",
}


def critical(cells: pd.DataFrame) -> pd.DataFrame:
    """Critical density and area of each row: per track, method and control, dense left out.

    `critical_density` is the sparsest density asked for whose mean is at most one point below
    dense, as are those of all denser ones; `beyond` says that it is the sparsest of the row, so
    that the true one may be sparser. `area` is that under the mean against log density over the
    densities of random: 0 is random's, 1 is dense's at every density. Only means of whole cells
    count. `n` is the least number of runs behind a mean of the row, of dense or of random. Where
    there is no number, the column of the same name with `_reason` says why; else that is "".
    """
    rows = [row for _, track in cells.groupby(TRACK) for row in _rows(track)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _rows(track: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The rows of one track."""
    whole = ~incomplete(track) & (track["accuracy_n"] > 0)
    track = track.assign(accuracy_mean=track["accuracy_mean"].where(whole))
    own = track["control"] == "none"
    dense = track[own & (track["method"] == "dense")]
    floor = _curve(track[own & (track["method_label"] == "random")])
    level = float(dense["accuracy_mean"].iloc[0]) if len(dense) else np.nan
    references = [*dense["accuracy_n"], *floor["accuracy_n"]]
    rows = track[(track["method"] != "dense") & (track["density_asked"] < 1)]
    for names, cells in rows.groupby(_ROW):
        curve = _curve(cells)
        density, critical_reason = critical_density(curve["accuracy_mean"], level)
        area, area_reason = area_between(curve["accuracy_mean"], floor["accuracy_mean"], level)
        yield {
            **{name: track[name].iloc[0] for name in TRACK},
            **dict(zip(_ROW, names, strict=True)),
            "n": min([*curve["accuracy_n"], *references]),
            "critical_density": density,
            "beyond": density == curve.index[-1],
            "critical_reason": critical_reason,
            "area": area,
            "area_reason": area_reason,
        }


def critical_density(means: pd.Series, dense: float) -> tuple[float, str]:
    """The critical density of means by density, and why there is none.

    Means are of falling density, not a number where a cell is not whole.
    """
    if np.isnan(dense):
        return np.nan, "no dense reference with all its runs"
    within = means.to_numpy() >= dense - POINT - _SAME
    count = len(within) if within.all() else int(np.argmin(within))
    if count:
        return float(means.index[count - 1]), ""
    if np.isnan(means.iloc[0]):
        return np.nan, "runs are missing at the densest"
    return np.nan, "more than one point below dense at the densest"


def area_between(means: pd.Series, floor: pd.Series, dense: float) -> tuple[float, str]:
    """The area of means by density, 0 for those of the floor and 1 for dense, and why not.

    All are of falling density; only densities of the floor count. The trapezoid rule.
    """
    if np.isnan(dense):
        return np.nan, "no dense reference with all its runs"
    if len(floor) < 2 or floor.isna().any():
        return np.nan, "no random floor with all its runs at two densities or more"
    means = means.reindex(floor.index)
    if means.isna().any():
        return np.nan, "runs are missing at a density of random"
    x = -np.log10(floor.index.to_numpy(dtype="float64"))
    room = float(np.trapezoid(dense - floor.to_numpy(), x))
    if room <= _SAME:
        return np.nan, "random is as good as dense"
    return float(np.trapezoid(means.to_numpy() - floor.to_numpy(), x)) / room, ""


def _curve(cells: pd.DataFrame) -> pd.DataFrame:
    """Means and counts by density, the densest first; something is pruned at each."""
    pruned = cells[cells["density_asked"] < 1].sort_values("density_asked", ascending=False)
    return pruned.set_index("density_asked")[["accuracy_mean", "accuracy_n"]]

"""Published figures in a plot of ours: hollow marks on dotted lines, not to be taken for ours."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from paibench.leaderboard.looks import Look

WORDS = "published"
_STYLE: dict[str, Any] = {"markerfacecolor": "none", "markersize": 7, "markeredgewidth": 0.9}
_DOTS = (0, (1, 2.5))


def marks(axes: Axes, published: pd.DataFrame, styles: dict[str, Look], span: list[float]) -> bool:
    """Draw rows of `published.published_for` within a span of densities; whether there were any.

    One line per method and source, in the look of the method; intervals where they are known.
    """
    near = published[published["density"].between(min(span), max(span))]
    near = near[near["method_label"].isin(list(styles))]
    for (name, _), rows in near.groupby(["method_label", "source"]):
        rows = rows.sort_values("density", ascending=False)
        look = styles[str(name)]
        x, y = -np.log10(rows["density"].to_numpy()), 100 * rows["accuracy"].to_numpy()
        marker = look.marker or "o"
        style = {"color": look.color, "linewidth": 0.9, "zorder": 1.8, **_STYLE}
        axes.plot(x, y, linestyle=_DOTS, marker=marker, **style)
        half = 100 * rows["half"].to_numpy()
        axes.errorbar(x, y, yerr=half, fmt="none", ecolor=look.color, elinewidth=0.5, zorder=1.7)
    return not near.empty


def sign() -> Artist:
    """What stands for them in a legend."""
    return Line2D([], [], color="#555555", linestyle=_DOTS, linewidth=0.9, marker="o", **_STYLE)

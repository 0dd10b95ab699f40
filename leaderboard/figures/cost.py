"""Accuracy against the cost of the search, with the Pareto-optimal methods."""

import math
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from paibench.leaderboard.figures.style import Drawn, LineStyle, bars, heading, legend, sheet
from paibench.leaderboard.format import ELSEWHERE, ascii_only, common_n, sparsity_percent
from paibench.leaderboard.stats.pareto import pareto
from paibench.leaderboard.stats.ranking import median_density, ranked, rewound_rows
from paibench.leaderboard.stats.summary import Track

_LEAST = 1e-9  # epochs: less than one example of any data set, so no data at all
_MOST = 1e9  # epochs: more than anybody can compute, so a faulty record
_TICKS = 8


def cost(
    track: Track, cells: pd.DataFrame, styles: dict[str, LineStyle], density: float | None = None
) -> Drawn:
    """Draw accuracy against the cost of the search at one density, by default the median.

    The x axis is the logarithm of the epochs that the search passed forward; searches without data
    are at its left end, labelled 0. Bars are 95 % intervals. Rings and the stepped line mark the
    Pareto-optimal cells among complete cells of tickets at initialization.
    """
    own = cells[(cells["control"] == "none")].assign(row=lambda cells: cells["method_label"])
    at = median_density(own) if density is None else density
    here = own[(own["density_asked"] == at) & (own["method"] != "dense")]
    here = here[(here["accuracy_n"] > 0) & (here["search_epochs"] < _MOST)]
    if here.empty:
        return Drawn(None, f"no run at {sparsity_percent(at)} sparsity has accuracy and cost")
    paid = here.loc[here["search_epochs"] > _LEAST, "search_epochs"]
    free = 10.0 ** (math.floor(math.log10(paid.min())) - 1) if len(paid) else 0.1
    here = here.assign(x=here["search_epochs"].where(here["search_epochs"] > _LEAST, free))
    late = rewound_rows(here)
    front = here[~here["row"].isin(late)]
    front = front[pareto(front)].sort_values("x")
    with sheet() as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_autoscalex_on(False)  # it would warn if all points have one x
        for name in ranked(here):
            _point(axes, here[here["row"] == name], styles[name], ELSEWHERE * (name in late))
        axes.step(front["x"], 100 * front["accuracy_mean"], where="post", color="#555555",
                  linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)  # fmt: skip
        axes.plot(front["x"], 100 * front["accuracy_mean"], **_RING)
        _frame(axes, free, float(here["x"].max()))
        n = common_n(here["accuracy_n"])
        words = f"{sparsity_percent(at)} sparsity, mean and 95 % interval, n = {n}"
        heading(axes, f"{track.model} on {track.dataset} ({track.split})", words)
        handles, labels = axes.get_legend_handles_labels()
        ring: Artist = Line2D([], [], **_RING)
        legend(figure, [*handles, ring], [*labels, "Pareto-optimal"])
    return Drawn(figure)


_RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": "#333333",
    "markeredgewidth": 0.9,
}


def _point(axes: Axes, cell: pd.DataFrame, style: LineStyle, sign: str) -> None:
    axes.plot(
        cell["x"].to_numpy(),
        100 * cell["accuracy_mean"].to_numpy(),
        linestyle="",
        color=style.color,
        marker=style.marker or "o",
        markersize=6,
        label=ascii_only(str(cell["row"].iloc[0]), 60) + sign,
        zorder=3,
    )
    bars(axes, cell["x"], cell["accuracy_low"], cell["accuracy_high"], style.color)


def _frame(axes: Axes, free: float, most: float) -> None:
    """Set up the x axis with a tick at each power of ten, and 0 for searches without data."""
    first = round(math.log10(free)) + 1
    last = max(math.floor(math.log10(most)), first)
    step = -(-(last + 1 - first) // _TICKS)
    powers = [10.0**power for power in range(first, last + 1, step)]
    axes.set_xlim(free / 2, max(most, powers[-1]) * 2)
    axes.set_xticks([free, *powers], ["0", *(f"{power:g}" for power in powers)])
    axes.minorticks_off()
    axes.set_xlabel("Cost of the search (epochs, log)")
    axes.set_ylabel("Accuracy (%)")
    sns.despine(ax=axes)

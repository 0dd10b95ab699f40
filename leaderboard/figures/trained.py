"""Accuracy before and after training the weights, against the fraction of weights kept.

The axis is linear, as in Ramanujan et al., "What's Hidden in a
Randomly Weighted Neural Network?", CVPR 2020.
"""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from paibench.leaderboard.figures.style import Drawn, LineStyle, bars, heading, legend, sheet
from paibench.leaderboard.format import ascii_only, common_n
from paibench.leaderboard.stats.ranking import ranked
from paibench.leaderboard.stats.summary import Track

_UNTRAINED: dict[str, Any] = {"linestyle": (0, (1, 1.5)), "markerfacecolor": "white"}
_GREY = "#555555"


def supermasks(cells: pd.DataFrame) -> pd.Series:
    """Return which cells are of a method that also gives a network without training its weights.

    These are the methods with a native accuracy, and edge_popup: its native accuracy is that of
    its ticket before training.
    """
    native = cells.groupby("method_label")["native_accuracy_n"].transform("sum") > 0
    return native | (cells["method"] == "edge_popup")


def trained(track: Track, cells: pd.DataFrame, styles: dict[str, LineStyle]) -> Drawn:
    """Draw accuracy after and before training against the fraction kept, for supermasks.

    If there are no supermasks, all methods are drawn. Filled markers and solid lines are trained,
    white markers and dotted lines untrained. The dashed line is the trained dense network. Bars are
    95 % intervals.
    """
    own = cells[cells["control"] == "none"].assign(row=lambda cells: cells["method_label"])
    pruned = own[(own["method"] != "dense") & (own["accuracy_untrained_n"] > 0)]
    native = supermasks(pruned)
    selected = pruned[native] if native.any() else pruned
    if selected.empty:
        return Drawn(None, "no pruned run has an accuracy before training")
    names = [name for name in ranked(own) if name in set(selected["row"])]
    dense = own[(own["method"] == "dense") & (own["accuracy_n"] > 0)]
    with sheet() as figure:
        axes = figure.add_subplot()
        for mean in 100 * dense["accuracy_mean"]:
            axes.axhline(mean, color="black", linewidth=1, linestyle=(0, (4, 2)), label="dense")
        for name in names:
            line = selected[selected["row"] == name].sort_values("density_asked")
            # If all training runs of a cell are lost, its untrained accuracy is still drawn.
            _line(axes, line[line["accuracy_n"] > 0], "accuracy", styles[name], {})
            _line(axes, line, "accuracy_untrained", styles[name], _UNTRAINED)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel("Weights kept (%)")
        axes.set_ylabel("Accuracy (%)")
        n = common_n(selected["accuracy_untrained_n"])
        words = f"mean and 95 % interval, n = {n}" if n > 1 else "n = 1, so no interval"
        heading(axes, f"{track.model} on {track.dataset} ({track.split})", words)
        sns.despine(ax=axes)
        _legend(figure, axes)
    return Drawn(figure)


def _line(
    axes: Axes, line: pd.DataFrame, measure: str, line_style: LineStyle, style: dict[str, Any]
) -> None:
    x = 100 * line["density_asked"].to_numpy()
    y = 100 * line[f"{measure}_mean"].to_numpy()
    name = ascii_only(str(line["row"].iloc[0]), 60) if len(line) else ""
    # matplotlib leaves out of the legend what has a label that begins with an underscore.
    axes.plot(
        x,
        y,
        color=line_style.color,
        marker=line_style.marker,
        markersize=4.5,
        linewidth=1.3,
        label=f"_{name}" if style or not name else name,
        **style,
    )
    bars(axes, x, line[f"{measure}_low"], line[f"{measure}_high"], line_style.color)


def _legend(figure: Any, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    kinds: list[Artist] = [
        Line2D([], [], color=_GREY, marker="o", markersize=4.5),
        Line2D([], [], color=_GREY, marker="o", markersize=4.5, **_UNTRAINED),
    ]
    legend(figure, [*handles, *kinds], [*labels, "trained", "untrained"])

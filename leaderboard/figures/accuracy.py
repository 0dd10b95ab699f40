"""Accuracy against sparsity: methods with intervals, dense, random and published results."""

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paibench.leaderboard.figures.style import (
    GREY,
    LineStyle,
    bars,
    dodge,
    heading,
    legend,
    places,
    sheet,
    small,
    zoom,
)
from paibench.leaderboard.format import ELSEWHERE, ascii_only, common_n, sparsity_percent
from paibench.leaderboard.stats.ranking import ranked, rewound_rows
from paibench.leaderboard.stats.summary import Track, reached

PUBLISHED = "published"
_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markersize": 7, "markeredgewidth": 0.9}
_DOTS = (0, (1, 2.5))


Measure = Literal["accuracy", "accuracy_untrained", "native_accuracy"]

MEANINGS: dict[Measure, str] = {
    "accuracy": "Accuracy (%)",
    "accuracy_untrained": "Accuracy before training (%)",
    "native_accuracy": "Accuracy of the supermask (%)",
}


def curve(
    track: Track,
    cells: pd.DataFrame,
    styles: dict[str, LineStyle],
    measure: Measure = "accuracy",
    published: pd.DataFrame | None = None,
) -> Figure:
    """Draw a measure against sparsity for one track, from its cells of the summary.

    The x axis is the logarithm of density, the densest at the left, labelled by sparsity. Bars are
    95 % intervals. A line has a gap at a cell without a result, with a cross at the bottom; a
    white marker lost some of its runs. If most means are crowded at the top of the range, a panel
    above enlarges them. Controls are only in the tables. Rows of `published_for` are large hollow
    markers on dotted lines, within the densities of our own results.
    """
    own = cells[cells["control"] == "none"].assign(row=lambda cells: cells["method_label"])
    pruned = own[own["method"] != "dense"]
    if measure != "accuracy":  # every method should have accuracy, but only some have the others
        pruned = pruned[pruned.groupby("row")[f"{measure}_n"].transform("sum") > 0]
    # The order of the legend is that of the tables.
    names = [name for name in ranked(own) if name in set(pruned["row"])]
    dense = own[own["method"] == "dense"]
    near = zoom(*(100 * part[f"{measure}_mean"] for part in (pruned, dense)))
    theirs = _theirs(published, measure)
    with sheet() as figure:
        panels = _panels(figure, near is not None)
        at = places(pruned["density_asked"])
        any_published = False
        for axes in panels:
            _dense(axes, dense, measure)
            if theirs is not None and at:
                any_published = _published(axes, theirs, {n: styles[n] for n in names}, list(at))
            for name, shift in zip(names, dodge(at, len(names)), strict=True):
                line = pruned[pruned["row"] == name]
                floor = near[0] if near and axes is panels[0] else 0.0
                _line(axes, line, measure, styles[name], shift, floor)
                # Crosses are at the foot of the figure, so only the lowest panel has them.
                if axes is panels[-1]:
                    _crosses(axes, line[_gaps(line, measure)], styles[name], shift)
            _frame(axes, at, measure)
        if near:
            panels[0].set_ylim(near)
            panels[0].set_xlabel("")
            small(panels[1], "the whole range")
        _heading(panels[0], track, own, measure)
        _legend(figure, panels[0], bool(_gaps(pruned, measure).any()), any_published)
    return figure


def _theirs(published: pd.DataFrame | None, measure: Measure) -> pd.DataFrame | None:
    return None if published is None else published[published["measure"] == measure]


def _panels(figure: Figure, two: bool) -> list[Axes]:
    """Return one panel, or two that share the x axis, of which the upper one is larger."""
    if not two:
        return [figure.add_subplot()]
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(5, 3))
    figure.set_figheight(4.6)
    return [upper, lower]


def _gaps(cells: pd.DataFrame, measure: Measure) -> pd.Series:
    """Return which cells were asked for but have no result."""
    return cells[f"{measure}_n"] == 0


def _dense(axes: Axes, cells: pd.DataFrame, measure: Measure) -> None:
    """Draw the dense network as a dashed horizontal line, and its interval as a band."""
    for cell in cells[~_gaps(cells, measure)].to_dict("records"):
        mean, low, high = (100 * cell[f"{measure}_{part}"] for part in ("mean", "low", "high"))
        axes.axhline(mean, color="black", linewidth=1, linestyle=(0, (4, 2)), label="dense")
        if not math.isnan(low):
            axes.axhspan(low, high, color="black", alpha=0.08, linewidth=0)


def _line(
    axes: Axes,
    cells: pd.DataFrame,
    measure: Measure,
    line_style: LineStyle,
    shift: float,
    floor: float,
) -> None:
    """Draw the means of one method, with bars for those above the bottom of the panel.

    NaN interrupts the line at a gap.
    """
    cells = cells.sort_values("density_asked", ascending=False)
    x = -np.log10(reached(cells).to_numpy()) + shift
    y = 100 * cells[f"{measure}_mean"].to_numpy()
    gray = line_style.color == GREY
    # Random is thicker, but below the methods that are compared with it.
    axes.plot(
        x,
        y,
        color=line_style.color,
        linestyle=line_style.dashes,
        linewidth=2 if gray else 1.3,
        marker=line_style.marker,
        markersize=5.5 if line_style.marker in "PX" else 4.5,
        markeredgewidth=0.5,
        markeredgecolor="white",
        label=ascii_only(str(cells["row"].iloc[0]), 60) + ELSEWHERE * bool(rewound_rows(cells)),
        zorder=2 if gray else 3,
    )
    # A bar without its point would mislead.
    low, high = (cells[f"{measure}_{end}"].where(y >= floor) for end in ("low", "high"))
    bars(axes, x, low, high, line_style.color, zorder=2.5)
    lost = _gaps(cells, measure).to_numpy()
    fewer = (cells[f"{measure}_n"] < cells["runs"]).to_numpy() & ~lost
    emptied: dict[str, Any] = {
        "color": line_style.color,
        "markerfacecolor": "white",
        "markersize": 4,
        "zorder": 4,
    }
    axes.plot(x[fewer], y[fewer], line_style.marker, **emptied)


def _crosses(axes: Axes, cells: pd.DataFrame, line_style: LineStyle, shift: float) -> None:
    """Draw a cross at the bottom for each of these cells, which have no result."""
    x = -np.log10(cells["density_asked"].to_numpy()) + shift
    foot = axes.get_xaxis_transform()
    axes.plot(x, np.full(len(x), 0.04), "x", color=line_style.color, transform=foot, zorder=4)


def _frame(axes: Axes, at: dict[float, float], measure: Measure) -> None:
    """Set the range, the ticks and the labels of both axes."""
    x = list(at.values()) or [0.0]
    # With one density there is no range to take the margin from.
    margin = 0.07 * (x[-1] - x[0]) or 0.25
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    ticks: dict[float, float] = {}
    for density, position in at.items():
        # The labels of densities that are close together would overlap.
        if not ticks or position - max(ticks.values()) > 0.07 * (x[-1] - x[0]):
            ticks[density] = position
    axes.set_xticks(list(ticks.values()), [sparsity_percent(density) for density in ticks])
    # An interval may reach below 0 or above 100 %, but an accuracy cannot.
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100))
    axes.set_xlabel("Sparsity (log of density)")
    axes.set_ylabel(MEANINGS[measure])
    sns.despine(ax=axes)


def _heading(axes: Axes, track: Track, cells: pd.DataFrame, measure: Measure) -> None:
    n = common_n(cells[f"{measure}_n"])
    words = f"mean and 95 % interval, n = {n}" if n > 1 else f"n = {n}, so no interval"
    lost = (cells[f"{measure}_n"] < cells["runs"]) & ~_gaps(cells, measure)
    fewer = "; hollow: some runs lost" if lost.any() else ""
    late = f"; {ELSEWHERE} not at initialization" if rewound_rows(cells) else ""
    heading(
        axes,
        f"{track.model} on {track.dataset} ({track.split})",
        f"{words}{fewer}{late}",
    )


def _legend(figure: Figure, axes: Axes, lost: bool, published: bool) -> None:
    own_handles, labels = axes.get_legend_handles_labels()
    handles: list[Artist] = list(own_handles)
    if lost:
        handles.append(Line2D([], [], linestyle="", marker="x", color="#555555"))
        labels.append("no result")
    if published:
        handles.append(_published_handle())
        labels.append(PUBLISHED)
    legend(figure, handles, labels)


# Published figures: hollow markers, so that nobody takes them for our results.


def _published(
    axes: Axes, published: pd.DataFrame, styles: dict[str, LineStyle], span: list[float]
) -> bool:
    """Draw rows of `published_for` within a range of densities; return whether there are any.

    There is one line for each method and source, in the style of the method, with intervals if the
    source gives them.
    """
    # Figures outside our densities would stretch the axis and shrink our own lines.
    near = published[published["density"].between(min(span), max(span))]
    near = near[near["method_label"].isin(list(styles))]
    for (name, _), rows in near.groupby(["method_label", "source"]):
        rows = rows.sort_values("density", ascending=False)
        line_style = styles[str(name)]
        x, y = -np.log10(rows["density"].to_numpy()), 100 * rows["accuracy"].to_numpy()
        marker = line_style.marker or "o"
        style = {"color": line_style.color, "linewidth": 0.9, "zorder": 1.8, **_HOLLOW}
        axes.plot(x, y, linestyle=_DOTS, marker=marker, **style)
        bars(axes, x, rows["low"], rows["high"], line_style.color, linewidth=0.5, zorder=1.7)
    return not near.empty


def _published_handle() -> Artist:
    """Return the legend entry of published figures."""
    return Line2D([], [], color="#555555", linestyle=_DOTS, linewidth=0.9, marker="o", **_HOLLOW)

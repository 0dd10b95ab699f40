"""Accuracy against sparsity as a figure: methods with intervals, the reference and the floor."""

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
from paibench.leaderboard.stats.summary import Track

WORDS = "published"
_STYLE: dict[str, Any] = {"markerfacecolor": "none", "markersize": 7, "markeredgewidth": 0.9}
_DOTS = (0, (1, 2.5))


def marks(
    axes: Axes, published: pd.DataFrame, styles: dict[str, LineStyle], span: list[float]
) -> bool:
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


def legend_handle() -> Artist:
    """What stands for them in a legend."""
    return Line2D([], [], color="#555555", linestyle=_DOTS, linewidth=0.9, marker="o", **_STYLE)


# plot: Accuracy against sparsity as a figure: methods with intervals, the reference and the floor.

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
    """A measure against sparsity for one track, from its cells of the summary.

    The x axis is the logarithm of density, densest at the left, named by sparsity. Bars are 95 %
    t intervals. A line stops where a cell has no result, and a cross at the foot says so; a
    hollow marker has lost some of its runs. Where most means crowd at the top of the range, a
    panel above enlarges them. Controls are left to the table. Rows of `published.published_for`
    stand beside as large hollow marks on dotted lines, within the densities of ours.
    """
    own = cells[cells["control"] == "none"].assign(row=lambda cells: cells["method_label"])
    drawn = own[own["method"] != "dense"]
    if measure != "accuracy":  # which every method should have, the others only some
        drawn = drawn[drawn.groupby("row")[f"{measure}_n"].transform("sum") > 0]
    names = [name for name in ranked(own) if name in set(drawn["row"])]
    dense = own[own["method"] == "dense"]
    near = zoom(*(100 * part[f"{measure}_mean"] for part in (drawn, dense)))
    theirs = _theirs(published, measure)
    with sheet() as figure:
        panels = _panels(figure, near is not None)
        at = places(drawn["density_asked"])
        beside = False
        for axes in panels:
            _dense(axes, dense, measure)
            if theirs is not None and at:
                beside = marks(axes, theirs, {n: styles[n] for n in names}, list(at))
            for name, shift in zip(names, dodge(at, len(names)), strict=True):
                line = drawn[drawn["row"] == name]
                floor = near[0] if near and axes is panels[0] else 0.0
                _line(axes, line, measure, styles[name], shift, floor)
                if axes is panels[-1]:
                    _crosses(axes, line[_gaps(line, measure)], styles[name], shift)
            _frame(axes, at, measure)
        if near:
            panels[0].set_ylim(near)
            panels[0].set_xlabel("")
            small(panels[1], "the whole range")
        _words(panels[0], track, own, measure)
        _legend(figure, panels[0], bool(_gaps(drawn, measure).any()), beside)
    return figure


def _theirs(published: pd.DataFrame | None, measure: Measure) -> pd.DataFrame | None:
    return None if published is None else published[published["measure"] == measure]


def _panels(figure: Figure, two: bool) -> list[Axes]:
    """One panel, or two that share the x axis, the upper one the larger."""
    if not two:
        return [figure.add_subplot()]
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(5, 3))
    figure.set_figheight(4.6)
    return [upper, lower]


def _gaps(cells: pd.DataFrame, measure: Measure) -> pd.Series:
    """The cells that were asked for and gave no result."""
    return cells[f"{measure}_n"] == 0


def _dense(axes: Axes, cells: pd.DataFrame, measure: Measure) -> None:
    """The reference as a dashed line across, its interval as a band."""
    for cell in cells[~_gaps(cells, measure)].to_dict("records"):
        mean, half = 100 * cell[f"{measure}_mean"], 100 * cell[f"{measure}_half"]
        axes.axhline(mean, color="black", linewidth=1, linestyle=(0, (4, 2)), label="dense")
        if not math.isnan(half):
            axes.axhspan(mean - half, mean + half, color="black", alpha=0.08, linewidth=0)


def _line(
    axes: Axes, cells: pd.DataFrame, measure: Measure, look: LineStyle, shift: float, floor: float
) -> None:
    """The means of one method with bars for those above the floor of the panel.

    Not-a-number breaks the line at a gap.
    """
    cells = cells.sort_values("density_asked", ascending=False)
    x = -np.log10(cells["density_asked"].to_numpy()) + shift
    y, half = (100 * cells[f"{measure}_{part}"].to_numpy() for part in ("mean", "half"))
    gray = look.color == GREY
    axes.plot(
        x,
        y,
        color=look.color,
        linestyle=look.dashes,
        linewidth=2 if gray else 1.3,
        marker=look.marker,
        markersize=5.5 if look.marker in "PX" else 4.5,
        markeredgewidth=0.5,
        markeredgecolor="white",
        label=ascii_only(str(cells["row"].iloc[0]), 60) + ELSEWHERE * bool(rewound_rows(cells)),
        zorder=2 if gray else 3,
    )
    half[y < floor] = np.nan  # a bar without its point would mislead
    axes.errorbar(x, y, yerr=half, fmt="none", ecolor=look.color, elinewidth=0.9, zorder=2.5)
    lost = _gaps(cells, measure).to_numpy()
    fewer = (cells[f"{measure}_n"] < cells["runs"]).to_numpy() & ~lost
    emptied: dict[str, Any] = {
        "color": look.color,
        "markerfacecolor": "white",
        "markersize": 4,
        "zorder": 4,
    }
    axes.plot(x[fewer], y[fewer], look.marker, **emptied)


def _crosses(axes: Axes, cells: pd.DataFrame, look: LineStyle, shift: float) -> None:
    """A cross at the foot for each of these cells, which have no result."""
    x = -np.log10(cells["density_asked"].to_numpy()) + shift
    foot = axes.get_xaxis_transform()
    axes.plot(x, np.full(len(x), 0.04), "x", color=look.color, transform=foot, zorder=4)


def _frame(axes: Axes, at: dict[float, float], measure: Measure) -> None:
    """Both axes: their range, their ticks at the densities, their names."""
    x = list(at.values()) or [0.0]
    margin = 0.07 * (x[-1] - x[0]) or 0.25
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    ticks: dict[float, float] = {}
    for density, place in at.items():
        if not ticks or place - max(ticks.values()) > 0.07 * (x[-1] - x[0]):
            ticks[density] = place
    axes.set_xticks(list(ticks.values()), [sparsity_percent(density) for density in ticks])
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100))
    axes.set_xlabel("Sparsity (log of density)")
    axes.set_ylabel(MEANINGS[measure])
    sns.despine(ax=axes)


def _words(axes: Axes, track: Track, cells: pd.DataFrame, measure: Measure) -> None:
    n = common_n(cells[f"{measure}_n"])
    said = f"mean and 95 % t interval, n = {n}" if n > 1 else f"n = {n}, so no interval"
    lost = (cells[f"{measure}_n"] < cells["runs"]) & ~_gaps(cells, measure)
    fewer = "; hollow: some runs lost" if lost.any() else ""
    late = f"; {ELSEWHERE} not at initialization" if rewound_rows(cells) else ""
    heading(
        axes,
        f"{track.model} on {track.dataset} ({track.split})",
        f"{said}{fewer}{late}",
    )


def _legend(figure: Figure, axes: Axes, lost: bool, published: bool) -> None:
    found, labels = axes.get_legend_handles_labels()
    handles: list[Artist] = list(found)
    if lost:
        handles.append(Line2D([], [], linestyle="", marker="x", color="#555555"))
        labels.append("no result")
    if published:
        handles.append(legend_handle())
        labels.append(WORDS)
    legend(figure, handles, labels)

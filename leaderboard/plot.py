"""Accuracy against sparsity as a figure: methods with intervals, the reference and the floor."""

import io
import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paibench.leaderboard.escape import ascii_only
from paibench.leaderboard.looks import GREY, STYLE, Look
from paibench.leaderboard.rank import ranked
from paibench.leaderboard.summary import Track
from paibench.leaderboard.table import common_n, sparsity_percent

Measure = Literal["accuracy", "accuracy_untrained", "native_accuracy"]

MEANINGS: dict[Measure, str] = {
    "accuracy": "Accuracy (%)",
    "accuracy_untrained": "Accuracy before training (%)",
    "native_accuracy": "Accuracy of the supermask (%)",
}


def curve(
    track: Track, cells: pd.DataFrame, styles: dict[str, Look], measure: Measure = "accuracy"
) -> Figure:
    """A measure against sparsity for one track, from its cells of the summary.

    The x axis is the logarithm of density, densest at the left, named by sparsity. Bars are 95 %
    t intervals. A line stops where a cell has no result, and a cross at the foot says so; a
    hollow marker has lost some of its runs. Controls are left to the table.
    """
    own = cells[cells["control"] == "none"].assign(row=lambda cells: cells["method_label"])
    drawn = own[own["method"] != "dense"]
    if measure != "accuracy":  # which every method should have, the others only some
        drawn = drawn[drawn.groupby("row")[f"{measure}_n"].transform("sum") > 0]
    names = [name for name in ranked(own) if name in set(drawn["row"])]
    places = _places(drawn["density_asked"])
    with rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _dense(axes, own[own["row"] == "dense"], measure)
        for name, shift in zip(names, _shifts(places, len(names)), strict=True):
            _line(axes, drawn[drawn["row"] == name], measure, styles[name], shift)
        _frame(axes, places, measure)
        _words(axes, track, own, measure)
        _legend(figure, axes, lost=bool(_gaps(drawn, measure).any()))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # or each drawing would shift it by a hair
    return figure


def png(figure: Figure) -> bytes:
    """A figure as PNG at 200 dots per inch; equal figures give equal bytes."""
    return _saved(figure, "png", dpi=200)


def svg(figure: Figure) -> bytes:
    """A figure as SVG, without a date; equal figures give equal bytes."""
    return _saved(figure, "svg", metadata={"Date": None})


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()


def _places(densities: pd.Series) -> dict[float, float]:
    """Where each density stands on the x axis, the densest first."""
    return {density: -math.log10(density) for density in sorted(densities.unique(), reverse=True)}


def _shifts(places: dict[float, float], count: int) -> list[float]:
    """How far each line is moved aside so that bars at one density do not hide each other."""
    gap = min(np.diff(list(places.values())), default=1.0)
    return list(np.linspace(-0.13, 0.13, count) * gap) if count > 1 else [0.0] * count


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


def _line(axes: Axes, cells: pd.DataFrame, measure: Measure, look: Look, shift: float) -> None:
    """The means of one method with their bars; not-a-number breaks the line at a gap."""
    cells = cells.sort_values("density_asked", ascending=False)
    x = -np.log10(cells["density_asked"].to_numpy()) + shift
    y, half = (100 * cells[f"{measure}_{part}"].to_numpy() for part in ("mean", "half"))
    floor = look.color == GREY
    axes.plot(
        x,
        y,
        color=look.color,
        linestyle=look.dashes,
        linewidth=2 if floor else 1.3,
        marker=look.marker,
        markersize=5.5 if look.marker in "PX" else 4.5,
        markeredgewidth=0.5,
        markeredgecolor="white",
        label=ascii_only(str(cells["row"].iloc[0]), 60),
        zorder=2 if floor else 3,
    )
    axes.errorbar(x, y, yerr=half, fmt="none", ecolor=look.color, elinewidth=0.9, zorder=2.5)
    lost = _gaps(cells, measure).to_numpy()
    fewer = (cells[f"{measure}_n"] < cells["runs"]).to_numpy() & ~lost
    hollow: dict[str, Any] = {
        "color": look.color,
        "markerfacecolor": "white",
        "markersize": 4,
        "zorder": 4,
    }
    axes.plot(x[fewer], y[fewer], look.marker, **hollow)
    foot = axes.get_xaxis_transform()
    axes.plot(x[lost], np.full(lost.sum(), 0.04), "x", color=look.color, transform=foot, zorder=4)


def _frame(axes: Axes, places: dict[float, float], measure: Measure) -> None:
    """Both axes: their range, their ticks at the densities, their names."""
    x = list(places.values()) or [0.0]
    margin = 0.07 * (x[-1] - x[0]) or 0.25
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    ticks: dict[float, float] = {}
    for density, place in places.items():
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
    fewer = (cells[f"{measure}_n"] < cells["runs"]) & ~_gaps(cells, measure)
    hollow = "; hollow: some runs lost" if fewer.any() else ""
    title = ascii_only(f"{track.model} on {track.dataset} ({track.split})", 56)
    axes.set_title(title, loc="left", pad=16, fontweight="bold")
    axes.annotate(
        f"{said}{hollow}", (0, 1), (0, 5), "axes fraction", "offset points", color="#555555",
        fontsize=8,
    )  # fmt: skip


def _legend(figure: Figure, axes: Axes, lost: bool) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if lost:
        handles.append(Line2D([], [], linestyle="", marker="x", color="#555555"))
        labels.append("no result")
    widest = max(map(len, labels), default=0)
    columns = 4 if widest <= 8 else 3 if widest <= 20 else 2 if widest <= 32 else 1
    figure.set_figheight(3.4 + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=2.4,
        columnspacing=1.4,
    )

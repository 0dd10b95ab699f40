"""How figures look: one style for all, and for each method a colour, a marker and a line."""

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paibench.leaderboard.format import ascii_only

GREY = "#8a8a8a"
# Seaborn's palette for colour-blind readers without its grey, the two palest last.
_COLORS = [sns.color_palette("colorblind")[place] for place in (0, 1, 2, 3, 4, 9, 5, 6, 8)]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h"]
Dashes = str | tuple[int, tuple[float, ...]]
_DASHES: list[Dashes] = ["-", (0, (4, 1.5)), (0, (1, 1))]
STYLE: dict[Any, Any] = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "paibench",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}


class LineStyle(NamedTuple):
    """How the line of one method is drawn."""

    color: tuple[float, float, float] | str
    marker: str
    dashes: Dashes


def line_styles(method_labels: Iterable[str]) -> dict[str, LineStyle]:
    """A look for each method, the same in all figures that are given the same labels.

    `random` is grey; 9 colours that colour-blind readers tell apart, 11 markers and 3 kinds of
    line make 297 others.
    """
    others = sorted(set(method_labels) - {"random", "dense"})
    found = {
        label: LineStyle(
            _COLORS[place % len(_COLORS)],
            _MARKERS[place % len(_MARKERS)],
            _DASHES[place // len(_COLORS) % len(_DASHES)],
        )
        for place, label in enumerate(others)
    }
    return found | {
        "random": LineStyle(GREY, "o", "-"),
        "dense": LineStyle("black", "", (0, (4, 2))),
    }


# scales: What the axes of a figure show: where densities stand, how far lines part, what is
# enlarged.

_LOW = 0.15  # of the means, so many may lie below what is enlarged
_GAIN = 3  # how much larger it must become to be worth a panel
_FLAT = 5  # points between the lowest and the highest mean that one panel shows well


def places(densities: pd.Series) -> dict[float, float]:
    """Where each density stands on the x axis, the densest first."""
    return {density: -math.log10(density) for density in sorted(densities.unique(), reverse=True)}


def dodge(at: dict[float, float], count: int) -> list[float]:
    """How far each line is moved aside, so that bars part and points stay at their density.

    Neighbours are 0.4 % of the axis apart, the outermost at most 1.5 % of it and a tenth of the
    way to the next density from where they belong.
    """
    x = list(at.values())
    if count < 2 or len(x) < 2:
        return [0.0] * count
    reach = min(min(0.015, 0.002 * (count - 1)) * (x[-1] - x[0]), 0.1 * float(min(np.diff(x))))
    return list(np.linspace(-reach, reach, count))


def zoom(means: pd.Series, dense: pd.Series) -> tuple[float, float] | None:
    """The part of the y axis to enlarge: from where a few of the means lie below to just above all.

    Both in percent. None where this would not help: where the means lie close together, or
    most of them fill the whole range.
    """
    everything = pd.concat([means, dense]).dropna()
    if means.dropna().empty:
        return None
    low, lowest, high = means.quantile(_LOW), everything.min(), everything.max()
    if high - lowest < _FLAT or _GAIN * (high - low) > high - lowest:
        return None
    margin = max(0.1 * (high - low), 0.1)
    return float(low - margin), float(min(high + margin, 100))


# canvas: What all figures share: the sheet, words above it, the legend below it, and its bytes.


class Drawn(NamedTuple):
    """A figure; or none, and why there is nothing to draw."""

    figure: Figure | None
    reason: str = ""


@contextmanager
def sheet(width: float = 5.0, height: float = 3.4) -> Iterator[Figure]:
    """An empty figure, drawn upon in the one style, and then settled so that it stays as it is."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # or each drawing would shift it by a hair


def heading(axes: Axes, title: str, words: str) -> None:
    """A title at the left above a panel, and small grey words below it."""
    axes.set_title(ascii_only(title, 56), loc="left", pad=16, fontweight="bold")
    small(axes, words)


def small(axes: Axes, text: str) -> None:
    """Words in small grey letters above the left end of a panel."""
    axes.annotate(
        text, (0, 1), (0, 5), "axes fraction", "offset points", color="#555555", fontsize=8
    )


def legend(figure: Figure, handles: list[Artist], labels: list[str]) -> None:
    """A legend below the figure, which grows by it."""
    widest = max(map(len, labels), default=0)
    columns = 4 if widest <= 8 else 3 if widest <= 20 else 2 if widest <= 32 else 1
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=2.4,
        columnspacing=1.4,
    )


def png(figure: Figure) -> bytes:
    """A figure as PNG at 200 dots per inch; equal figures give equal bytes."""
    return _saved(figure, "png", dpi=200)


def svg(figure: Figure) -> bytes:
    """A figure as SVG, without a date; equal figures give equal bytes."""
    return _saved(figure, "svg", metadata={"Date": None})


def pdf(figure: Figure) -> bytes:
    """A figure as PDF with its fonts, without a date; equal figures give equal bytes."""
    with rc_context({"pdf.fonttype": 42}):  # venues refuse the default, Type 3
        return _saved(figure, "pdf", metadata={"CreationDate": None})


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()

"""The style of all figures: sizes, colours and markers, axes, legends, and output as bytes."""

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
# Seaborn's palette for colour-blind readers without its grey, darkened as far as needed: each has a
# contrast of 3:1 or more to white and to the dark theme of the site.
_COLORS = [
    *("#0173b2", "#b86e00", "#029e73", "#d55e00", "#c061ad"),
    *("#2f8fc9", "#a5703f", "#9c7bd0", "#868600"),
]
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
    """Colour, marker and dashes of the line of one method."""

    color: str
    marker: str
    dashes: Dashes


def line_styles(method_labels: Iterable[str]) -> dict[str, LineStyle]:
    """Return a line style for each method, the same for the same labels.

    `random` is grey. 9 colours that colour-blind readers can distinguish, 11 markers and 3 kinds of
    dashes give 297 other styles.
    """
    others = sorted(set(method_labels) - {"random", "dense"})
    styles = {
        label: LineStyle(
            _COLORS[index % len(_COLORS)],
            _MARKERS[index % len(_MARKERS)],
            _DASHES[index // len(_COLORS) % len(_DASHES)],
        )
        for index, label in enumerate(others)
    }
    return styles | {
        "random": LineStyle(GREY, "o", "-"),
        "dense": LineStyle("black", "", (0, (4, 2))),
    }


# Axes: positions of densities, offsets of lines, and the range of the enlarged panel.

_LOW = 0.15  # fraction of the means that may be below the enlarged range
_GAIN = 3  # a smaller enlargement is not worth a panel
_FLAT = 5  # one panel is enough for a smaller range of means, in points


def places(densities: pd.Series) -> dict[float, float]:
    """Return the position of each density on the x axis, the densest first."""
    return {density: -math.log10(density) for density in sorted(densities.unique(), reverse=True)}


def dodge(at: dict[float, float], count: int) -> list[float]:
    """Return a small x offset for each line, so that bars of different lines do not overlap.

    Neighbours are 0.4 % of the axis apart. The largest offset is 1.5 % of the axis, and a tenth of
    the distance to the next density.
    """
    x = list(at.values())
    if count < 2 or len(x) < 2:
        return [0.0] * count
    reach = min(min(0.015, 0.002 * (count - 1)) * (x[-1] - x[0]), 0.1 * float(min(np.diff(x))))
    return list(np.linspace(-reach, reach, count))


def zoom(means: pd.Series, dense: pd.Series) -> tuple[float, float] | None:
    """Return the range of the y axis to enlarge, with few means below it and none above.

    Both arguments are in percent. None if it would not help, because the means are close together
    or spread over the whole range.
    """
    everything = pd.concat([means, dense]).dropna()
    if means.dropna().empty:
        return None
    low, lowest, high = means.quantile(_LOW), everything.min(), everything.max()
    if high - lowest < _FLAT or _GAIN * (high - low) > high - lowest:
        return None
    margin = max(0.1 * (high - low), 0.1)
    return float(low - margin), float(min(high + margin, 100))


# The figure itself: its canvas, the heading above it, the legend below it, and its bytes.


class Drawn(NamedTuple):
    """A figure, or None with the reason why there is nothing to draw."""

    figure: Figure | None
    reason: str = ""


@contextmanager
def sheet(width: float = 5.0, height: float = 3.4) -> Iterator[Figure]:
    """Yield an empty figure in our style; fix its layout when the block ends."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # otherwise every rendering would move parts slightly


def heading(axes: Axes, title: str, words: str) -> None:
    """Write a title above the left end of a panel, and small grey words below the title."""
    axes.set_title(ascii_only(title, 56), loc="left", pad=16, fontweight="bold")
    small(axes, words)


def small(axes: Axes, text: str) -> None:
    """Write small grey words above the left end of a panel."""
    axes.annotate(
        text, (0, 1), (0, 5), "axes fraction", "offset points", color="#555555", fontsize=8
    )


def bars(
    axes: Axes,
    x: Any,
    low: pd.Series,
    high: pd.Series,
    color: Any,
    linewidth: float = 0.9,
    **style: Any,
) -> None:
    """Draw intervals of accuracies, in percent, as vertical lines; those with NaN are left out."""
    # Not `errorbar`, which refuses a mean outside of its interval.
    ends = 100 * np.array([low, high], dtype="float64")
    known = np.isfinite(ends).all(axis=0)
    if known.any():
        axes.vlines(
            np.asarray(x)[known], *ends[:, known], color=color, linewidth=linewidth, **style
        )


def legend(figure: Figure, handles: list[Artist], labels: list[str]) -> None:
    """Add a legend below the figure, and increase its height accordingly."""
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
    """Return a figure as PNG at 200 dots per inch; equal figures give equal bytes."""
    return _saved(figure, "png", dpi=200)


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG without a date; equal figures give equal bytes."""
    return _saved(figure, "svg", metadata={"Date": None})


def pdf(figure: Figure) -> bytes:
    """Return a figure as PDF with its fonts, without a date; equal figures give equal bytes."""
    with rc_context({"pdf.fonttype": 42}):  # journals refuse the default, Type 3
        return _saved(figure, "pdf", metadata={"CreationDate": None})


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()

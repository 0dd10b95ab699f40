"""What all figures share: the sheet, words above it, the legend below it, and its bytes."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paibench.leaderboard.escape import ascii_only
from paibench.leaderboard.looks import STYLE


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

"""How figures look: one style for all, and for each method a colour, a marker and a line."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import seaborn as sns

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


class Look(NamedTuple):
    """How the line of one method is drawn."""

    color: tuple[float, float, float] | str
    marker: str
    dashes: Dashes


def looks(method_labels: Iterable[str]) -> dict[str, Look]:
    """A look for each method, the same in all figures that are given the same labels.

    `random` is grey; 9 colours that colour-blind readers tell apart, 11 markers and 3 kinds of
    line make 297 others.
    """
    others = sorted(set(method_labels) - {"random", "dense"})
    found = {
        label: Look(
            _COLORS[place % len(_COLORS)],
            _MARKERS[place % len(_MARKERS)],
            _DASHES[place // len(_COLORS) % len(_DASHES)],
        )
        for place, label in enumerate(others)
    }
    return found | {"random": Look(GREY, "o", "-"), "dense": Look("black", "", (0, (4, 2)))}

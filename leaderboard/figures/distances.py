"""The distances between the masks that a search draws as it goes, a panel for each search."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from paibench.leaderboard.figures.style import Drawn, sheet, small
from paibench.leaderboard.format import ascii_only, sparsity_percent
from paibench.leaderboard.stats.summary import Track, of_track

MOST_PANELS = 6


class Search(NamedTuple):
    """A search that drew at least two masks."""

    method: str
    density: float
    seed: int
    matrix: NDArray[np.float64]
    """The distance of any two masks [t, t]."""


def searches(runs: pd.DataFrame) -> Iterator[Search]:
    """Yield the search with the lowest seed of each method and density.

    The densest search of every method comes first, because sparse masks are never far apart.
    """
    own = runs[(runs["control"] == "none") & (runs["mask_distances"].str.len() > 1)]
    order = {"method_label": True, "density_asked": False, "seed": True}
    own = own.sort_values(list(order), ascending=list(order.values()))
    own = own.drop_duplicates(["method_label", "density_asked"])
    number = own.groupby("method_label").cumcount()
    for run in own.loc[number.sort_values(kind="stable").index].to_dict("records"):
        matrix = symmetric(run["mask_distances"])
        yield Search(run["method_label"], run["density_asked"], run["seed"], matrix)


def symmetric(rows: Iterable[Iterable[float]]) -> NDArray[np.float64]:
    """Return the matrix of distances, from rows of which row t has those from masks before t."""
    below = [list(row) for row in rows]
    matrix = np.zeros((len(below), len(below)))
    for t, row in enumerate(below):
        matrix[t, :t] = matrix[:t, t] = row[:t]
    return matrix


def distances(track: Track, runs: pd.DataFrame) -> Drawn:
    """Draw the distance of any two masks of a search, as in figure 2 of You et al. (ICLR 2020).

    All panels have the same colours. A ticket has emerged if the masks of a block at the lower
    right are all alike.
    """
    found = list(searches(of_track(runs, track)))
    if not found:
        return Drawn(None)
    shown = found[:MOST_PANELS]
    most = max(float(search.matrix.max()) for search in shown)
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    with sheet(width=0.9 + 2.2 * columns, height=0.5 + 2.3 * rows) as figure:
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes, search in zip(grid, shown, strict=False):
            image = axes.imshow(
                search.matrix, vmin=0, vmax=most or 1, cmap="viridis_r", interpolation="nearest"
            )
            axes.grid(False)
            title = ascii_only(search.method, 34)
            axes.set_title(title, loc="left", pad=16, fontweight="bold", fontsize=7)
            small(axes, f"{sparsity_percent(search.density)} sparsity, seed {search.seed}")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("Mask")
            axes.set_ylabel("Mask")
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        figure.colorbar(image, ax=list(grid), label="Distance", shrink=0.8)
    return Drawn(figure)

"""Supermasks as their own search would deploy them: a table of a class of its own."""

import pandas as pd

from paibench.leaderboard.site.board import GAP, Board, Cell, Item, Row, clean, number, percent
from paibench.leaderboard.site.track_boards import Frames, densities, heads
from paibench.leaderboard.summary import of_track
from paibench.leaderboard.table import sparsity_percent

_CAPTION = (
    "Accuracy in percent of supermasks as their own search would deploy them, without any training "
    "of the weights: mean ± half the width of the 95 % t interval over seeds. Not ranked; searches "
    "may end at another sparsity than the column's, which the cell says."
)


def supermasks(shown: Frames, found: pd.DataFrame) -> Board | None:
    """Accuracy of supermasks before any training of the weights, a class of its own."""
    own = of_track(found, shown.track).to_dict("records")
    cells = {(cell["method_label"], cell["density_asked"]): cell for cell in own}
    if not cells:
        return None
    columns = densities(shown.cells)
    slugs = {cell["method_label"]: shown.slugs[cell["method"]] for cell in cells.values()}
    rows = [
        Row(
            clean(label),
            f"method/{slug}.html#{shown.slug}",
            tuple(_supermask(cells.get((label, density))) for density in columns),
        )
        for label, slug in sorted(slugs.items())[: shown.at_most]
    ]
    cut = len(slugs) if len(slugs) > len(rows) else 0
    title = "Supermasks before training"
    return Board(
        "supermasks",
        title,
        _CAPTION,
        "method",
        heads(columns),
        tuple(rows),
        cut,
    )


def _supermask(cell: Cell | None) -> Item:
    if cell is None:
        return Item(GAP)
    mean, half, n = float(cell["mean"]), number(cell["half"]), int(cell["n"])
    reached = number(cell["native_density"])
    small = [f"at {sparsity_percent(reached)}"] if reached else []
    spread = None if half is None else round(100 * half, 6)
    return Item(
        percent(mean, half), ", ".join([*small, f"n = {n}"]), round(100 * mean, 6), spread, n
    )

"""What the controls of each method say, in words."""

from typing import Any

import pandas as pd

from paibench.leaderboard import rank
from paibench.leaderboard.site.board import Board, Column, Item, Row, clean, number, signed
from paibench.leaderboard.site.track_boards import Frames
from paibench.leaderboard.summary import of_track
from paibench.leaderboard.table import sparsity_percent

_COLUMNS = (
    Column("control", "control"),
    Column("sparsity", "sparsity"),
    Column("difference", "minus its control", spread=True),
    Column("p", "p", "two-sided paired t test, corrected after Holm"),
    Column("verdict", "verdict"),
)
_CAPTION = (
    "Accuracy of a method minus that of its control, in points, in pairs of equal sparsity and "
    "seed: mean ± half the width of the 95 % t interval. Shuffle keeps how many weights each "
    "layer has, at random places; reinit keeps the mask, with fresh weights; invert keeps the "
    "lowest scores."
)


def verdicts(shown: Frames, controls: pd.DataFrame) -> Board | None:
    """A row for each control of each method at each sparsity; None where there are no pairs."""
    found = of_track(controls, shown.track)
    if found.empty:
        return None
    order = {name: place for place, name in enumerate(rank.ranked(shown.cells))}
    found = found.assign(place=found["method_label"].map(order).fillna(len(order)))
    found = found.sort_values(
        ["place", "method_label", "control", "density_asked"], ascending=[True, True, True, False]
    )
    cut = len(found) if len(found) > 6 * shown.at_most else 0
    rows = [_row(shown, pair) for pair in found.head(6 * shown.at_most).to_dict("records")]
    return Board(
        "verdicts", "What the controls say", _CAPTION, "method", _COLUMNS, tuple(rows), cut
    )


def _row(shown: Frames, pair: dict[Any, Any]) -> Row:
    density, n = float(pair["density_asked"]), int(pair["n"])
    half, p = number(pair["half"]), number(pair["p_holm"])
    items = (
        Item(str(pair["control"])),
        Item(sparsity_percent(density), "", round(100 * (1 - density), 9)),
        Item(
            signed(float(pair["difference"]), half),
            f"n = {n}",
            round(100 * float(pair["difference"]), 4),
            None if half is None else round(100 * half, 4),
            n,
        ),
        Item("–") if p is None else Item(f"{p:.2g}", "", float(f"{p:.6g}")),
        Item(str(pair["verdict"])),
    )
    href = f"method/{shown.slugs[pair['method']]}.html#{shown.slug}"
    return Row(clean(pair["method_label"]), href, items)

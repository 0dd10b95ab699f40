"""Published figures beside ours on the page of a track; never ranked."""

from typing import Any

import pandas as pd

from paibench.leaderboard.reproduction import TOLERANCE, reproduction
from paibench.leaderboard.site.board import Board, Column, Item, Row, clean, number, percent, signed
from paibench.leaderboard.site.track_boards import Frames
from paibench.leaderboard.table import row_name, sparsity_percent

_COLUMNS = (
    Column("theirs_at", "sparsity, theirs"),
    Column("ours_at", "sparsity, ours"),
    Column("theirs", "theirs", spread=True),
    Column("ours", "ours", spread=True),
    Column("difference", "difference", "ours minus theirs, in points"),
    Column("differs", "in what their protocol differs", words=True),
    Column("source", "source", words=True),
)
_MEASURES = {
    "accuracy": "",
    "accuracy_untrained": ", before training",
    "native_accuracy": ", its own supermask",
}
_CAPTION = (
    "Accuracy in percent; the difference is ours minus theirs, in points. ± is half the width of "
    "the 95 % t interval, there only where a source gives a deviation and n, the number of runs; "
    "n = ? where it does not say. "
    f"Ours is the nearest sparsity, its density at most {100 * TOLERANCE:g} % away from theirs. "
    "Published figures are not ranked: no two of these protocols are the same."
)


def published(shown: Frames, figures: pd.DataFrame) -> Board | None:
    """Every published figure that a cell of ours stands beside; None where there is none."""
    found = reproduction(shown.track, shown.cells, figures)
    names = shown.cells.drop_duplicates("method_label")
    methods = dict(zip(names["method_label"], names["method"], strict=True))
    rows = tuple(
        _row(each, f"method/{shown.slugs[methods[each['method_label']]]}.html#{shown.slug}")
        for each in found.to_dict("records")
    )
    if not rows:
        return None
    cut = len(rows) if len(rows) > shown.at_most else 0
    return Board("published", "Published figures", _CAPTION, "method", _COLUMNS,
                 rows[: shown.at_most], cut)  # fmt: skip


def _row(each: dict[Any, Any], href: str) -> Row:
    name = row_name(each["method_label"], each["control"]) + _MEASURES[each["measure"]]
    difference = each["difference"]
    items = (
        _sparsity(each["density_theirs"]),
        _sparsity(each["density_ours"]),
        _mean(each, "theirs"),
        _mean(each, "ours"),
        Item(signed(difference), "", round(100 * difference, 4)),
        Item(clean(each["differs"]) or "nothing that the source says"),
        Item(clean(each["source"]), f"kind: {clean(each['kind'])}"),
    )
    return Row(clean(name), href, items)


def _sparsity(density: float) -> Item:
    return Item(sparsity_percent(density), "", round(100 * (1 - density), 9))


def _mean(each: dict[Any, Any], whose: str) -> Item:
    half = number(each[f"{whose}_half"])
    n = None if pd.isna(each[f"{whose}_n"]) else int(each[f"{whose}_n"])
    shown_half = None if half is None else round(100 * half, 4)
    said = "n = ?" if n is None else f"n = {n}"
    return Item(percent(each[whose], half), said, round(100 * each[whose], 4), shown_half, n)

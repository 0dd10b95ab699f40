"""The tables of one method: every cell of it by track, with each of its runs."""

from typing import NamedTuple

import pandas as pd

from paibench.leaderboard.site.board import (
    Cell,
    Column,
    Item,
    accuracy,
    clean,
    cost,
    difference,
    number,
)
from paibench.leaderboard.summary import CELL, Track, tracks
from paibench.leaderboard.table import row_name, sparsity_percent

_BYTES = 2_600_000  # of the tables of a page, so that it stays below 3 MB
_LINE, _LINK = 500, 46  # about what a cell and the link to a run take
_SHORT = 12  # digits of a key that say which run, among some hundred thousand
COLUMNS = (
    Column("sparsity", "sparsity"),
    Column("accuracy", "accuracy, %", "", spread=True),
    Column("differences", "minus random, points", "", spread=True),
    Column("untrained", "untrained, %", "", spread=True),
    Column("native", "as a supermask, %", "", spread=True),
    Column("effective", "effective density"),
    Column("epochs", "search, epochs"),
    Column("seconds", "search, s"),
    Column("runs", "runs, by seed"),
)


class Run(NamedTuple):
    """A link to a run: the beginning of its key, its seed, and a word where it is not done."""

    key: str
    seed: int
    word: str


class Line(NamedTuple):
    """One cell of the leaderboard: what it is, its items, its runs."""

    name: str
    items: tuple[Item, ...]
    runs: tuple[Run, ...]


class Part(NamedTuple):
    """All cells of a method in one track."""

    track: Track
    slug: str
    lines: tuple[Line, ...]


def parts(
    cells: pd.DataFrame, runs: pd.DataFrame, slugs: dict[Track, str]
) -> tuple[list[Part], int]:
    """The cells of one method by track, and how many of them have no line for want of room."""
    found = _runs(runs)
    left, dropped, made = _BYTES, 0, []
    for track, part in tracks(cells):
        lines = []
        known = part.assign(is_control=part["control"] != "none")
        order = ["method_label", "is_control", "control", "density_asked"]
        rising = [True, True, True, False]
        for cell in known.sort_values(order, ascending=rising).to_dict("records"):
            own = found.get(tuple(cell[name] for name in CELL), [])
            left -= _LINE + _LINK * len(own)
            if left < 0:
                dropped += 1
                continue
            name = row_name(cell["method_label"], cell["control"])
            lines.append(Line(clean(name), tuple(_items(cell)), tuple(own)))
        made.append(Part(track, slugs[track], tuple(lines)))
    return made, dropped


def _runs(runs: pd.DataFrame) -> dict[tuple[object, ...], list[Run]]:
    found: dict[tuple[object, ...], list[Run]] = {}
    columns = [runs[name].tolist() for name in (*CELL, "key", "seed", "status")]
    for *cell, key, seed, status in zip(*columns, strict=True):
        word = "" if status == "done" else str(status)
        found.setdefault(tuple(cell), []).append(Run(str(key)[:_SHORT], int(seed), word))
    return {cell: sorted(own, key=lambda run: (run.seed, run.key)) for cell, own in found.items()}


def _items(cell: Cell) -> list[Item]:
    density = float(cell["density_asked"])
    effective = number(cell["density_effective"])
    return [
        Item(sparsity_percent(density), "", round(100 * (1 - density), 9)),
        accuracy(cell),
        difference(cell),
        _optional(cell, "accuracy_untrained"),
        _optional(cell, "native_accuracy"),
        Item("–") if effective is None else Item(f"{effective:.4g}", "", effective),
        cost(cell, "search_epochs"),
        cost(cell, "search_seconds"),
    ]


def _optional(cell: Cell, measure: str) -> Item:
    return accuracy(cell, measure) if cell[f"{measure}_n"] else Item("–")

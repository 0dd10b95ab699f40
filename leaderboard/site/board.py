"""A table of the site as plain values: what stands in each cell, what it sorts by, its n."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from paibench.leaderboard import escape
from paibench.leaderboard.table import CONFLICT, ELSEWHERE, LOST, UNLIKE

Cell = Mapping[Hashable, Any]
GAP = "–"
BEST = "◆"


class Column(NamedTuple):
    """A column: its key in addresses, its head, what its values mean, and how they are shown."""

    key: str
    title: str
    hint: str = ""
    spread: bool = False
    """Whether the values come with half widths and n, which the CSV gives columns of their own."""
    words: bool = False
    """Whether it has sentences, which wrap."""


class Item(NamedTuple):
    """One cell of a table; `value` is what it sorts by, None where it is text."""

    text: str
    small: str = ""
    value: float | None = None
    half: float | None = None
    n: int | None = None
    group: int | None = None


class Row(NamedTuple):
    """One row: its name with a link, and an item for each column after the first."""

    name: str
    href: str
    items: tuple[Item, ...]


class Board(NamedTuple):
    """A table with its caption; `cut` says how many rows it would have, where not all stand."""

    id: str
    title: str
    caption: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cut: int = 0


def clean(text: str) -> str:
    """Text of a record, fit for a page: one line, nothing invisible, at most 400 characters."""
    if len(text) <= 400 and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()  # nearly always, and a report has millions
    return escape.plain(text, 400)


def percent(mean: float, half: float | None = None) -> str:
    """A fraction in percent, with half its interval: 97.7 ± 0.2"""
    return f"{100 * mean:.1f}" + (f" ± {100 * half:.1f}" if half is not None else "")


def signed(mean: float, half: float | None = None) -> str:
    """A difference of fractions in points, with a sign that is no formula: +1.2, −0.3"""
    text = percent(abs(mean), half)
    return f"{'−' if round(1000 * mean) < 0 else '+'}{text}"


def number(value: Any) -> float | None:
    """A number that can be shown, or None: of NaN, infinity and <NA> as well."""
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def lost_words(cell: Cell) -> str:
    """What became of the runs of a cell that gave no accuracy: "failed 1/3, missing 1/3"."""
    return ", ".join(f"{word} {int(cell[word])}/{int(cell['runs'])}" for word in LOST if cell[word])


def accuracy(cell: Cell | None, measure: str = "accuracy") -> Item:
    """The mean of a measure with its interval, n, what was lost and the rank group."""
    if cell is None:
        return Item(GAP)
    mean, n = number(cell[f"{measure}_mean"]), int(cell[f"{measure}_n"])
    lost = lost_words(cell)
    if mean is None or not n:
        return Item(lost or "no value", "", None, None, 0)
    half = number(cell[f"{measure}_half"])
    group = _group(cell) if measure == "accuracy" else None
    small = [f"group {group}"] if group else []
    small += [f"n = {n}"] + ([lost] if lost else [])
    small += (
        [f"collapsed {int(cell['collapsed'])}/{int(cell['runs'])}"] if cell["collapsed"] else []
    )
    text = percent(mean, half) + marks(cell)
    shown_half = None if half is None else round(100 * half, 4)
    return Item(text, ", ".join(small), round(100 * mean, 4), shown_half, n, group)


def marks(cell: Cell) -> str:
    """The signs of a cell: not beaten, unlike environments, unrepeatable, not at initialization."""
    signs = {
        BEST: cell["best"],
        UNLIKE: cell["unlike"],
        CONFLICT: cell["conflicts"],
        ELSEWHERE: cell["not_at_initialization"],
    }
    found = "".join(sign for sign, given in signs.items() if given)
    return f" {found}" if found else ""


def difference(cell: Cell | None) -> Item:
    """What a cell gains over random pruning in pairs of equal seeds, and the verdict in words."""
    if cell is None:
        return Item(GAP)
    n, verdict = number(cell["pair_n"]), cell["pair_verdict"]
    mean, half = number(cell["pair_difference"]), number(cell["pair_half"])
    if n is None and (mean := number(cell["random_difference"])) is not None:
        n, half, verdict = int(cell["random_n"]), number(cell["random_half"]), "not tested"
    if mean is None or not n:
        return Item("no pairs", "", None, None, 0)
    p = number(cell["pair_p_holm"])
    small = [str(verdict), *([f"p = {p:.2g}"] if p is not None else []), f"n = {int(n)}"]
    shown_half = None if half is None else round(100 * half, 4)
    return Item(signed(mean, half), ", ".join(small), round(100 * mean, 4), shown_half, int(n))


def cost(cell: Cell | None, name: str, scale: float = 1, digits: int = 3) -> Item:
    """A mean cost with its n."""
    mean = number(cell[f"{name}_mean"]) if cell is not None else None
    if cell is None or mean is None:
        return Item(GAP)
    n = int(cell[f"{name}_n"])
    return Item(amount(mean * scale, digits), f"n = {n}", round(mean * scale, 4), None, n)


def amount(value: float, digits: int = 3) -> str:
    """A number in so many digits, without an exponent as far as it can be read: 14,700"""
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _group(cell: Cell) -> int | None:
    value = number(cell["group"])
    return None if value is None else int(value)

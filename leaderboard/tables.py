"""The leaderboard as a table: methods by sparsity, with intervals, counts and words for gaps."""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from paibench.leaderboard import format
from paibench.leaderboard.stats.ranking import incomplete, median_density, ranked, rewound_rows
from paibench.leaderboard.stats.summary import Track

LOST = ("diverged", "failed", "skipped", "missing")
UNLIKE, CONFLICT, ELSEWHERE = "*", "†", "‡"
_KINDS = 3


@dataclass(frozen=True)
class Table:
    """A table as raw text, not yet escaped: the first column names the methods."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def table(track: Track, cells: pd.DataFrame) -> Table:
    """The table of one track from its cells of the summary.

    Rows are in the order of `ranked`, signed where the weights are not at initialization. A cell
    has the mean and half its 95 % t interval in percent, n where it differs from the caption's,
    and what was lost of its runs; "–" where no run was asked for.
    """
    cells = cells.assign(row=[row_name(*pair) for pair in _pairs(cells)])
    usual = common_n(cells["accuracy_n"])
    densities = sorted(cells["density_asked"].unique(), reverse=True)
    shown = {
        (cell["row"], cell["density_asked"]): _cell(cell, usual)
        for cell in cells.to_dict("records")
    }
    late = rewound_rows(cells)
    rows = tuple(
        (
            name + ELSEWHERE * (name in late),
            *(shown.get((name, density), "–") for density in densities),
        )
        for name in ranked(cells)
    )
    head = ("method", *(sparsity_percent(density) for density in densities))
    return Table(_title(track, cells, usual), head, rows, tuple(_notes(cells, usual)))


def terminal(table: Table) -> Group:
    """The table for `rich.print`; nothing in it is taken for markup."""
    shown = RichTable(title=Text(format.plain(table.title, 400)), title_justify="left")
    for place, name in enumerate(table.head):
        shown.add_column(Text(name), justify="right" if place else "left")
    for row in table.rows:
        shown.add_row(*(Text(format.plain(cell)) for cell in row))
    return Group(shown, *(Text(format.plain(note, 400)) for note in table.notes))


def markdown(table: Table) -> str:
    """The table as GitHub's markdown, its title a bold line, its notes a list."""
    rows = [table.head, ("---", *["---:"] * (len(table.head) - 1)), *table.rows]
    lines = [f"| {' | '.join(format.markdown(cell) for cell in row)} |" for row in rows]
    notes = [f"- {format.markdown(note, 400)}" for note in table.notes]
    return "\n".join([f"**{format.markdown(table.title, 400)}**", "", *lines, "", *notes, ""])


def row_name(method_label: str, control: str) -> str:
    """What a method is called in a table: its label, and its control where it has one."""
    return method_label if control == "none" else f"{method_label}, {control}"


def sparsity_percent(density: float) -> str:
    """A density as the sparsity that is shown, in three digits of what is kept: 0.0562 → 94.38 %"""
    kept = 100 * density
    digits = max(0, 2 - math.floor(math.log10(kept)))
    text = f"{100 - kept:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def common_n(counts: pd.Series) -> int:
    """The commonest number of runs behind a mean, the larger where two are as common."""
    found = counts[counts > 0].mode()
    return int(found.max()) if len(found) else 0


def _pairs(cells: pd.DataFrame) -> Iterable[tuple[str, str]]:
    return zip(cells["method_label"], cells["control"], strict=True)


def _cell(cell: Mapping[Hashable, Any], usual: int) -> str:
    n, runs = int(cell["accuracy_n"]), int(cell["runs"])
    words = [f"{lost} {int(cell[lost])}/{runs}" for lost in LOST if cell[lost]]
    if n:
        half = f" ± {100 * cell['accuracy_half']:.1f}" if n > 1 else ""
        marks = UNLIKE * bool(cell["unlike"]) + CONFLICT * bool(cell["conflicts"])
        marks += ELSEWHERE * bool(cell["not_at_initialization"])
        count = f" (n={n})" if n != usual else ""
        words.insert(0, f"{100 * cell['accuracy_mean']:.1f}{half}{marks}{count}")
    return ", ".join(words)


def _title(track: Track, cells: pd.DataFrame, usual: int) -> str:
    counts = " or ".join(f"{count:,}" for count in sorted(cells["prunable"].dropna().unique()))
    return ", ".join(
        [
            f"{track.model} on {track.dataset}",
            f"{counts or 'unknown'} prunable weights",
            f"recipe {track.recipe}",
            f"init {track.init}",
            f"evaluated on {track.split}",
            f"n = {usual} seed{'' if usual == 1 else 's'}",
            f"protocol {track.protocol}",
        ]
    )


def _notes(cells: pd.DataFrame, usual: int) -> Iterable[str]:
    interval = "mean ± half the width of its 95 % t interval over seeds"
    yield f"Accuracy in percent at the last epoch, by sparsity: {interval}; – was not asked for."
    if usual == 1:
        yield "Most cells are of one seed, which has no interval."
    for name, what in {"dense": "dense reference", "random": "random floor"}.items():
        if not cells.loc[cells["row"] == name, "accuracy_n"].sum():
            yield f"There is no {what} in this table."
    if incomplete(cells[cells["density_asked"] == median_density(cells)]).any():
        where = sparsity_percent(median_density(cells))
        yield f"Rows are in order of the mean at {where}; those that lack runs there come after."
    if late := sorted(rewound_rows(cells)):
        yield (
            f"{ELSEWHERE} weights not at initialization: {', '.join(late)}. They start "
            "from weights that the search made, so they stand after all others."
        )
    if (cells["unlike"] != "").any():
        yield f"{UNLIKE} averages runs of unlike environments: {_kinds(cells, 'unlike')}."
    if (cells["random_unlike"] != "").any():
        yield f"Not made like the random runs of equal seed: {_kinds(cells, 'random_unlike')}."
    if cells["conflicts"].any():
        yield (
            f"{CONFLICT} has runs that gave another result when the same spec was run again, so "
            "they cannot be repeated exactly; the mean has the first result, the other is kept "
            "in the store."
        )
    if collapsed := list(_collapsed(cells)):
        yield f"Layers collapsed: {'; '.join(collapsed)}."


def _kinds(cells: pd.DataFrame, name: str) -> str:
    """What stands in a column of words, each with the rows that have it; the rest as a number."""
    rows = cells[cells[name] != ""].groupby(name)["row"].unique()
    said = [f"{what} ({', '.join(sorted(names))})" for what, names in rows.items()]
    more = [f"and {len(said) - _KINDS} more kinds, see the CSV"] if len(said) > _KINDS else []
    return " / ".join([*said[:_KINDS], *more])


def _collapsed(cells: pd.DataFrame) -> Iterable[str]:
    for name, hit in cells[cells["collapsed"] > 0].groupby("row"):
        where = (
            f"{sparsity_percent(cell['density_asked'])} ({cell['collapsed']}/{cell['runs']})"
            for cell in hit.to_dict("records")
        )
        yield f"{name} at {', '.join(where)}"

"""The one model of a table, from which the terminal, Markdown, LaTeX and the site are rendered."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from paibench.leaderboard import format
from paibench.leaderboard.format import (
    BEATS,
    BEST,
    CONFLICT,
    ELSEWHERE,
    GAP,
    UNLIKE,
    common_n,
    number,
    percent,
    prunable_counts,
    row_name,
    sparsity_percent,
)
from paibench.leaderboard.stats.floors import FLOORS
from paibench.leaderboard.stats.ranking import (
    endpoint_by_row,
    median_density,
    ranked,
    rewound_rows,
)
from paibench.leaderboard.stats.summary import LOST, Track, reached

SummaryRow = Mapping[Hashable, Any]
"""A row of the summary: one method, control and density of one track."""

_FLOORS = dict(zip(FLOORS, ("random floor", "random floor with ERK quotas"), strict=True))
REFERENCES = {"dense": "dense reference"} | _FLOORS
"""The rows that a table needs, and what they are."""
INTERVAL = "mean and 95 % interval over seeds (from log-odds; ± if its ends are equally far to 0.1)"
_KINDS = 3  # different environments that a note names


class Column(NamedTuple):
    """A column: its key in addresses, its head, what its values mean, and how they are shown."""

    key: str
    title: str
    hint: str = ""
    spread: bool = False
    """Whether the values come with intervals and n, which the CSV gives separate columns."""
    words: bool = False
    """Whether the cells are sentences, which wrap."""


class Cell(NamedTuple):
    """One cell of a table. `value` is the number that it is sorted by, None for text."""

    text: str
    detail: str = ""
    """Words that only the site shows, in small letters below the text."""
    value: float | None = None
    low: float | None = None
    """The lower end of the 95 % interval, in the unit of `value`."""
    high: float | None = None
    n: int | None = None
    best: int | None = None
    """The best rank that the cell may have at its density."""
    marks: str = ""
    """Signs that the notes of the table explain."""
    lost: str = ""
    """The runs without a result, in words: "failed 1/3"."""


class Row(NamedTuple):
    """One row: its name, the page that the name links to, and a cell for each column."""

    name: str
    href: str
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """A table as raw text, not yet escaped. The first column, `head`, has the names of the rows."""

    id: str
    title: str
    caption: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cut: int = 0
    """How many rows there would be, if not all of them are in `rows`."""
    notes: tuple[str, ...] = ()
    """Lines below the caption: what the marks mean, and what is missing."""
    usual_n: int = 0
    """The n that the title states; text shows the n of the cells that differ."""


def accuracy_table(track: Track, cells: pd.DataFrame) -> Table:
    """Return all rows of one track in one table, from its cells of the summary.

    Rows are in the order of `ranked`, with a sign if their weights are not at initialization.
    """
    cells = with_rows(cells)
    usual = common_n(cells["accuracy_n"])
    columns = densities(cells)
    by_row = cells_by_row(cells)
    late = rewound_rows(cells)
    rows = [
        Row(
            name + ELSEWHERE * (name in late),
            "",
            tuple(accuracy(by_row[name].get(density)) for density in columns),
        )
        for name in ranked(cells)
    ]
    caption = (
        f"Accuracy in percent at the last epoch, by sparsity: {INTERVAL}; {GAP} was not asked for."
    )
    return Table(
        id="accuracy",
        title=_title(track, cells, usual),
        caption=caption,
        head="method",
        columns=density_columns(columns),
        rows=tuple(rows),
        notes=tuple(_notes(cells, usual)),
        usual_n=usual,
    )


def with_rows(cells: pd.DataFrame) -> pd.DataFrame:
    """Add the column `row`, the name of the row that a cell of the summary belongs to."""
    pairs = zip(cells["method_label"], cells["control"], strict=True)
    return cells.assign(row=[row_name(*pair) for pair in pairs])


def cells_by_row(cells: pd.DataFrame) -> dict[str, dict[float, SummaryRow]]:
    """Return the cells of a track by the name of their row and by density."""
    rows: dict[str, dict[float, SummaryRow]] = {}
    for cell in cells.to_dict("records"):
        rows.setdefault(cell["row"], {})[cell["density_asked"]] = cell
    return rows


def densities(cells: pd.DataFrame) -> list[float]:
    """Return the densities of a track that have columns, the densest first."""
    return sorted(map(float, cells["density_asked"].unique()), reverse=True)


def density_columns(densities: Sequence[float]) -> tuple[Column, ...]:
    """Return a column for each density, named by its sparsity."""
    return tuple(
        Column(f"d{density:g}", sparsity_percent(density), spread=True) for density in densities
    )


def accuracy(cell: SummaryRow | None, measure: str = "accuracy") -> Cell:
    """Return the mean of a measure with its interval, n, the lost runs and the rank set."""
    if cell is None:
        return Cell(GAP)
    mean, n = number(cell[f"{measure}_mean"]), int(cell[f"{measure}_n"])
    lost = lost_runs(cell)
    # A run that is done may still lack a measure: only supermasks have a native accuracy.
    if mean is None or not n:
        return Cell(lost or "no value", n=0)
    # Only trained accuracy is ranked, and only the cells of a board have the columns of ranks.
    best = number(cell.get("best_rank")) if measure == "accuracy" else None
    detail = [f"rank {rank_set_text(cell)}", cell["rank_mark"]] if best else []
    detail += [f"n = {n}"]
    if cell["collapsed"]:
        detail += [f"collapsed {int(cell['collapsed'])}/{int(cell['runs'])}"]
    shown = interval_cell(mean, cell[f"{measure}_low"], cell[f"{measure}_high"], n, detail)
    return shown._replace(best=int(best) if best else None, marks=_marks(cell), lost=lost)


def interval_cell(
    mean: float,
    low: Any,
    high: Any,
    n: int | None,
    detail: Iterable[str],
    text: Callable[[float, float | None, float | None], str] = percent,
) -> Cell:
    """Return a fraction in percent with the ends of its interval, which are None or NaN if unknown.

    `text` is `percent` for means and `signed` for differences; `detail` is joined by commas.
    """
    ends = number(low), number(high)
    low, high = (None if end is None else round(100 * end, 4) for end in ends)
    details = ", ".join(filter(None, detail))
    return Cell(text(mean, *ends), details, value=round(100 * mean, 4), low=low, high=high, n=n)


def rank_set_text(row: Mapping[Any, Any]) -> str:
    """Return a rank set in words, from `best_rank`, `worst_rank` and `ranked_of`: "2–5 of 9"."""
    best, worst = int(row["best_rank"]), int(row["worst_rank"])
    return f"{best}{f'–{worst}' if worst > best else ''} of {int(row['ranked_of'])}"


def lost_runs(cell: SummaryRow) -> str:
    """Return what became of the runs that gave no accuracy: "failed 1/3, missing 1/3"."""
    return ", ".join(f"{word} {int(cell[word])}/{int(cell['runs'])}" for word in LOST if cell[word])


def _marks(cell: SummaryRow) -> str:
    signs = {
        BEST: cell.get("best"),
        BEATS: cell.get("outcome") == "better",
        UNLIKE: cell["unlike"],
        CONFLICT: cell["conflicts"],
        ELSEWHERE: cell["not_at_initialization"],
    }
    return "".join(sign for sign, applies in signs.items() if applies)


def terminal(table: Table) -> Group:
    """Render a table for `rich.print`; nothing in it is read as markup."""
    # Names with many options are longer than the default limit of `plain`.
    rich_table = RichTable(title=Text(format.plain(table.title, 400)), title_justify="left")
    head, *rows = text_rows(table)
    # As Text, because brackets in a string would be markup.
    for index, name in enumerate(head):
        rich_table.add_column(Text(name), justify="right" if index else "left")
    for row in rows:
        rich_table.add_row(*(Text(format.plain(cell)) for cell in row))
    return Group(rich_table, *(Text(format.plain(note, 400)) for note in legend(table)))


def markdown(table: Table) -> str:
    """Render a table as GitHub's Markdown: its title as a bold line, its notes as a list."""
    head, *rows = text_rows(table)
    rule = ["---", *("---" if column.words else "---:" for column in table.columns)]
    cells = [[format.markdown(cell) for cell in row] for row in (head, *rows)]
    cells.insert(1, rule)
    lines = [f"| {' | '.join(row)} |" for row in cells]
    notes = [f"- {format.markdown(note, 400)}" for note in legend(table)]
    return "\n".join([f"**{format.markdown(table.title, 400)}**", "", *lines, "", *notes, ""])


def legend(table: Table) -> tuple[str, ...]:
    """Return the lines below a table: its caption, then its notes."""
    return (table.caption, *table.notes) if table.caption else table.notes


def text_rows(table: Table) -> list[list[str]]:
    """Return the head and the rows of a table as text, a string for each cell."""
    head = [table.head, *(column.title for column in table.columns)]
    rows = [
        [
            row.name,
            *(
                _text(cell, column, table.usual_n)
                for cell, column in zip(row.cells, table.columns, strict=True)
            ),
        ]
        for row in table.rows
    ]
    return [head, *rows]


def _text(cell: Cell, column: Column, usual_n: int) -> str:
    """Return one cell as text: n if it is not that of the title, and the lost runs."""
    if not column.spread or cell.value is None:
        return f"{cell.text} ({cell.detail})" if column.words and cell.detail else cell.text
    n = "?" if cell.n is None else cell.n
    count = f" (n={n})" if n != usual_n else ""
    # "Not beaten" depends on the cost of the search, which text tables do not show.
    text = f"{cell.text}{cell.marks.replace(BEST, '')}{count}"
    return ", ".join(filter(None, [text, cell.lost]))


def _title(track: Track, cells: pd.DataFrame, usual: int) -> str:
    prunable, share = prunable_counts(cells)
    return ", ".join(
        [
            f"{track.model} on {track.dataset}",
            f"{prunable} prunable weights{share}",
            f"recipe {track.recipe}",
            f"init {track.init}",
            f"evaluated on {track.split}",
            f"n = {usual} seed{'' if usual == 1 else 's'}",
            f"protocol {track.protocol}",
        ]
    )


def _notes(cells: pd.DataFrame, usual: int) -> Iterable[str]:
    if usual == 1:
        yield "Most cells are of one seed, which has no interval."
    # An accuracy says little without these to compare it with.
    for name, role in REFERENCES.items():
        if not cells.loc[cells["row"] == name, "accuracy_n"].sum():
            yield f"There is no {role} in this table."
    # Without this note, a higher mean below a lower one would look like a mistake.
    yield order_note(cells)
    if "outcome" in cells and (cells["outcome"] == "better").any():
        yield (
            f"{BEATS} beats both random floors at this sparsity: Welch's tests of log-odds, the "
            "endpoint first, then Holm over the sparsities of the method, at 5 %."
        )
    if late := sorted(rewound_rows(cells)):
        yield (
            f"{ELSEWHERE} weights not at initialization: {', '.join(late)}. They start "
            "from weights that the search made, so they stand after all others."
        )
    if (cells["unlike"] != "").any():
        yield f"{UNLIKE} averages runs of different environments: {_kinds(cells, 'unlike')}."
    if (cells["floor_unlike"] != "").any():
        kinds = _kinds(cells, "floor_unlike")
        yield f"Not made in the environment of the random runs: {kinds}."
    if cells["conflicts"].any():
        yield (
            f"{CONFLICT} has runs that gave another result when the same spec was run again, so "
            "they cannot be repeated exactly; the mean uses the first result, and the store keeps "
            "the other."
        )
    if fewer := list(_fewer(cells)):
        yield f"Whole channels keep fewer weights than asked for: {'; '.join(fewer)}."
    if collapsed := list(_collapsed(cells)):
        yield f"Layers collapsed: {'; '.join(collapsed)}."


def order_note(cells: pd.DataFrame) -> str:
    """Return in what order the rows of a track stand, from its cells with the column `row`."""
    known = endpoint_by_row(cells)
    if not known:
        middle = sparsity_percent(median_density(cells))
        return f"After dense and random, rows are in order of the mean at {middle} sparsity."
    lacking = set(cells.loc[cells["method"] != "dense", "row"]) - set(known)
    rest = "; rows without it follow" if lacking else ""
    return (
        "After dense and random, rows are in order of the endpoint, the mean log-odds over the "
        f"sparsities of random{rest}."
    )


def _fewer(cells: pd.DataFrame) -> Iterable[str]:
    """Yield the sparsities that rows reach at others than those they are listed under."""
    other = cells[reached(cells) != cells["density_asked"]]
    for name, rows in other.groupby("row", sort=False):
        pairs = zip(rows["density"], rows["density_asked"], strict=True)
        values = [f"{sparsity_percent(is_)} under {sparsity_percent(due)}" for is_, due in pairs]
        yield f"{name} has {', '.join(values)}"


def _kinds(cells: pd.DataFrame, name: str) -> str:
    """Return the different texts of a column, each with its rows; count those beyond the limit."""
    # Runs from many machines differ in many ways, which would flood the notes.
    rows = cells[cells[name] != ""].groupby(name)["row"].unique()
    kinds = [f"{kind} ({', '.join(sorted(names))})" for kind, names in rows.items()]
    more = [f"and {len(kinds) - _KINDS} more kinds, see the CSV"] if len(kinds) > _KINDS else []
    return " / ".join([*kinds[:_KINDS], *more])


def _collapsed(cells: pd.DataFrame) -> Iterable[str]:
    for name, hit in cells[cells["collapsed"] > 0].groupby("row"):
        where = (
            f"{sparsity_percent(cell['density_asked'])} ({cell['collapsed']}/{cell['runs']})"
            for cell in hit.to_dict("records")
        )
        yield f"{name} at {', '.join(where)}"

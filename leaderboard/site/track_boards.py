"""The tables of one track: ranked, not at initialization, controls, against random."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from paibench.leaderboard import rank
from paibench.leaderboard.site import tail as tail_columns
from paibench.leaderboard.site.board import (
    BEST,
    Board,
    Cell,
    Column,
    Item,
    Row,
    accuracy,
    clean,
    difference,
)
from paibench.leaderboard.summary import Track
from paibench.leaderboard.table import row_name, sparsity_percent

_BYTES = 1_600_000  # of all tables of a page, so that it stays below 3 MB with its chart
_CELL, _ROW = 95, 700


class Frames(NamedTuple):
    """The cells of one track, ready to be shown: a row name each, and where rows link to."""

    track: Track
    cells: pd.DataFrame
    slugs: dict[str, str]
    slug: str
    """The file name of the track, which is also where a method's page has its rows."""
    rows: dict[tuple[Any, ...], dict[Any, Any]]
    """Critical density and area of each row, by track, label and control."""
    at_most: int
    """How many rows each table may have."""


def frames(
    track: Track,
    cells: pd.DataFrame,
    slugs: dict[str, str],
    slug: str,
    rows: dict[tuple[Any, ...], dict[Any, Any]],
) -> Frames:
    """The cells of a track with the column `row`, and how many rows its page can hold."""
    pairs = zip(cells["method_label"], cells["control"], strict=True)
    cells = cells.assign(row=[row_name(*pair) for pair in pairs])
    width = 3 * _CELL * cells["density_asked"].nunique() + _ROW
    return Frames(track, cells, slugs, slug, rows, max(20, _BYTES // width))


def boards(shown: Frames) -> list[Board]:
    """The tables of accuracy: of tickets at initialization, of others, of controls."""
    cells = shown.cells
    order = rank.ranked(cells)
    controls = set(cells.loc[cells["control"] != "none", "row"])
    late = rank.elsewhere(cells) - controls
    parts = {
        "ranked": ("Ranking", [name for name in order if name not in late | controls]),
        "elsewhere": ("Not at initialization", [name for name in order if name in late]),
        "controls": ("Controls", [name for name in order if name in controls]),
    }
    return [
        _board(shown, key, title, names, accuracy, tail=True)
        for key, (title, names) in parts.items()
        if names
    ]


def differences(shown: Frames) -> Board | None:
    """What each row gains over random pruning at each sparsity, with tests."""
    own = shown.cells[~shown.cells["row"].isin(["random", "dense"])]
    rows = set(own["row"])
    names = [name for name in rank.ranked(shown.cells) if name in rows]
    if not names or not own["random_n"].sum():
        return None
    return _board(shown, "differences", "Against random", names, difference)


def densities(cells: pd.DataFrame) -> list[float]:
    """The densities of a track that have columns, the densest first."""
    return sorted(map(float, cells["density_asked"].unique()), reverse=True)


def _board(
    shown: Frames,
    key: str,
    title: str,
    names: list[str],
    item: Callable[[Cell | None], Item],
    tail: bool = False,
) -> Board:
    wanted = names[: shown.at_most]
    columns = densities(shown.cells)
    found: dict[str, dict[float, Cell]] = {name: {} for name in wanted}
    own = shown.cells[shown.cells["row"].isin(wanted)]
    for cell in own.to_dict("records"):
        found[cell["row"]][cell["density_asked"]] = cell
    middle = rank.middle(shown.cells)
    rows = []
    for name in wanted:
        by_density = found[name]
        items = [item(by_density.get(density)) for density in columns]
        any_cell = next(iter(by_density.values()))
        if tail:
            where = by_density.get(middle, by_density.get(1.0))
            row = (*shown.track, any_cell["method_label"], any_cell["control"])
            items += tail_columns.items(shown.rows.get(row, {}), by_density, where)
        href = f"method/{shown.slugs[any_cell['method']]}.html#{shown.slug}"
        rows.append(Row(clean(name), href, tuple(items)))
    cut = len(names) if len(names) > len(wanted) else 0
    return Board(
        key,
        title,
        _captions(key, middle),
        "method",
        (*heads(columns), *tail_columns.COLUMNS * tail),
        tuple(rows),
        cut,
    )


def heads(columns: list[float]) -> tuple[Column, ...]:
    return tuple(
        Column(f"d{density:g}", sparsity_percent(density), "", spread=True) for density in columns
    )


def _captions(key: str, middle: float) -> str:
    where = sparsity_percent(middle)
    interval = "mean ± half the width of the 95 % t interval over seeds"
    return {
        "ranked": f"Accuracy in percent at the last epoch, by sparsity: {interval}; – was not "
        "asked for. "
        f"Ordered by the mean at {where} sparsity, where costs are measured too. {BEST} no other "
        "is at least as accurate, as sparse and as cheap to find.",
        "elsewhere": "Tickets that start from weights which their search made. They know more "
        f"than pruning at initialization may, so they are not ranked. Accuracy in percent: "
        f"{interval}; costs at {where} sparsity.",
        "controls": f"The same masks shuffled, inverted, or with other weights. Accuracy in "
        f"percent: {interval}; costs at {where} sparsity.",
        "differences": "Accuracy minus that of random pruning in points, in pairs of equal "
        "sparsity and seed: mean ± half the width of the 95 % t interval.",
    }[key]

"""The tables of one track: ranked, not at initialization, controls, supermasks, differences."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pandas as pd

from paibench.leaderboard import rank
from paibench.leaderboard.site.board import (
    BEST,
    GAP,
    Board,
    Cell,
    Column,
    Item,
    Row,
    accuracy,
    clean,
    cost,
    difference,
    number,
    percent,
)
from paibench.leaderboard.summary import TRACK, Track
from paibench.leaderboard.table import row_name, sparsity_percent

_BYTES = 1_600_000  # of all tables of a page, so that it stays below 3 MB with its chart
_CELL, _ROW = 95, 700
_SHOWN_ROWS, _SHOWN_DENSITIES = 12, 7
_TAIL = (
    Column("critical", "critical sparsity", "the sparsest within one point of dense"),
    Column("area", "area", "under accuracy against log density, from random (0) to dense (1)"),
    Column("verdict", "beats random", "paired on equal seeds, tests corrected after Holm"),
    Column("best", "best epoch, %", "accuracy at the best epoch; shown, never ranked"),
    Column("epochs", "search, epochs", "of the training split, which finding the mask cost"),
    Column("seconds", "search, s", "seconds that finding the mask took"),
    Column("memory", "memory, MB", "the most memory held at once"),
    Column("macs", "multiply-adds, %", "of one example through the kept weights, of dense"),
    Column("mark", "mark", "self-reported, checked or verified"),
)


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


def supermasks(shown: Frames, found: pd.DataFrame) -> Board | None:
    """Accuracy of supermasks before any training of the weights, a class of its own."""
    own = pd.Series(True, found.index)
    for name, value in zip(TRACK, shown.track, strict=True):
        own &= found[name] == value
    cells = {(c["method_label"], c["density_asked"]): c for c in found[own].to_dict("records")}
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
        _captions("supermasks", 1.0),
        "method",
        _heads(columns),
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


def narrow(shown: Frames, found: list[Board], title: str) -> Board:
    """The head of a track's ranking for the start page: its first rows, without their costs."""
    ranked = next((board for board in found if board.id == "ranked"), None)
    if ranked is None:
        return Board(f"on-{shown.slug}", title, "No row of it can be ranked.", "method", (), ())
    spread = [place for place, column in enumerate(ranked.columns) if column.spread]
    filled = {place: sum(bool(row.items[place].n) for row in ranked.rows) for place in spread}
    fullest = sorted(spread, key=lambda place: (place > 0, -filled[place], place))
    keys = ("critical", "area", "verdict", "mark")
    kept = [
        *sorted(fullest[:_SHOWN_DENSITIES]),
        *(p for p, c in enumerate(ranked.columns) if c.key in keys),
    ]
    rows = [
        row._replace(items=tuple(row.items[place] for place in kept))
        for row in ranked.rows[:_SHOWN_ROWS]
    ]
    columns = tuple(ranked.columns[place] for place in kept)
    total = ranked.cut or len(ranked.rows)
    more = f" The first {len(rows)} of {total} rows." if total > len(rows) else ""
    return Board(f"on-{shown.slug}", title, ranked.caption + more, "method", columns, tuple(rows))


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
            items += _tail(shown, by_density, where)
        href = f"method/{shown.slugs[any_cell['method']]}.html#{shown.slug}"
        rows.append(Row(clean(name), href, tuple(items), str(any_cell["mark"])))
    cut = len(names) if len(names) > len(wanted) else 0
    return Board(
        key,
        title,
        _captions(key, middle),
        "method",
        (*_heads(columns), *_TAIL * tail),
        tuple(rows),
        cut,
    )


def _heads(columns: list[float]) -> tuple[Column, ...]:
    return tuple(
        Column(f"s{place}", sparsity_percent(density), "", spread=True)
        for place, density in enumerate(columns)
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
        "supermasks": "Accuracy in percent of supermasks as their own search would deploy them, "
        f"without any training of the weights: {interval}. Not ranked; searches may end at another "
        "sparsity than the column's, which the cell says.",
    }[key]


def _tail(
    shown: Frames,
    by_density: dict[float, Cell],
    where: Cell | None,
) -> Iterable[Item]:
    """The columns behind the sparsities: what sums a row up, and its costs at one density."""
    first = next(iter(by_density.values()))
    summed = shown.rows.get((*shown.track, first["method_label"], first["control"]), {})
    yield _critical(summed)
    yield _area(summed)
    yield _beats(by_density.values())
    yield cost(where, "accuracy_best", 100)
    yield cost(where, "search_epochs")
    yield cost(where, "search_seconds")
    yield cost(where, "peak_memory_mb")
    yield _multiply_adds(where)
    yield Item(str(first["mark"]))


def _critical(summed: dict[Any, Any]) -> Item:
    density, n = number(summed.get("critical_density")), int(summed.get("n", 0))
    if density is None:
        return Item(GAP, str(summed.get("critical_reason", "")))
    beyond = "at least " if summed["beyond"] else ""
    sparsity = round(100 * (1 - density), 9)
    return Item(f"{beyond}{sparsity_percent(density)}", f"n = {n}", sparsity, None, n)


def _area(summed: dict[Any, Any]) -> Item:
    area, n = number(summed.get("area")), int(summed.get("n", 0))
    if area is None:
        return Item(GAP, str(summed.get("area_reason", "")))
    return Item(f"{area:.3f}", f"n = {n}", round(area, 6), None, n)


def _beats(cells: Iterable[Cell]) -> Item:
    """At how many of the tested sparsities a row beats random."""
    verdicts = [str(cell["pair_verdict"]) for cell in cells if number(cell["pair_n"])]
    if not verdicts:
        return Item(GAP)
    beats = verdicts.count("beats random")
    tested = len([word for word in verdicts if word != "too few seeds"])
    if not tested:
        return Item("too few seeds", f"at all {len(verdicts)}")
    worse = verdicts.count("worse than random")
    small = f"worse at {worse}" if worse else ""
    word = "beats random" if beats == tested else "in part" if beats else "not shown"
    return Item(f"{word}", ", ".join(filter(None, [f"at {beats} of {tested}", small])), beats)


def _multiply_adds(cell: Cell | None) -> Item:
    dense = number(cell["multiply_adds_dense_mean"]) if cell is not None else None
    sparse = number(cell["multiply_adds_sparse_mean"]) if cell is not None else None
    if cell is None or not dense or sparse is None:
        return Item(GAP)
    n = int(cell["multiply_adds_sparse_n"])
    share = 100 * sparse / dense
    return Item(f"{share:.3g}", f"n = {n}", round(share, 6), None, n)

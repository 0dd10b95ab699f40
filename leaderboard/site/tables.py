"""The tables on the page of a track, and the head of its ranking on the start page."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from paibench.leaderboard.board import Board, TrackBoard
from paibench.leaderboard.format import (
    BEST,
    CONFLICT,
    ELSEWHERE,
    GAP,
    UNLIKE,
    amount,
    clean,
    number,
    percent,
    signed,
    sparsity_percent,
)
from paibench.leaderboard.published.compare import as_table
from paibench.leaderboard.stats import ranking
from paibench.leaderboard.stats.paired import FLOORS, VERDICTS
from paibench.leaderboard.stats.summary import of_track
from paibench.leaderboard.submission.verification_level import LEVELS
from paibench.leaderboard.tables import (
    Cell,
    Column,
    Row,
    SummaryRow,
    Table,
    accuracy,
    cells_by_row,
    densities,
    density_columns,
    with_rows,
)

_PAGE_BYTES = 1_600_000  # all tables of a page, so that it stays below 3 MB with its chart
_CELL_BYTES, _ROW_BYTES = 95, 700  # estimates
_INDEX_ROWS, _INDEX_DENSITIES = 12, 7

SUMMARY_COLUMNS = (
    Column("critical", "critical sparsity", "the highest sparsity within one point of dense"),
    Column("area", "area", "under accuracy against log density, from random (0) to dense (1)"),
    Column(
        "verdict",
        "beats random",
        "without and with ERK quotas; paired on equal seeds, tests corrected after Holm",
    ),
    Column("best", "best epoch, %", "accuracy at the best epoch; shown, but never ranked"),
    Column("epochs", "search, epochs", "epochs of the training split that the search used"),
    Column("seconds", "search, s", "seconds that the search took"),
    Column("memory", "memory, MB", "peak memory"),
    Column("macs", "multiply-adds, %", "of one example, through the kept weights, of dense"),
    Column("mark", "verification", "self-reported, checked or verified"),
)
CONTROL_COLUMNS = (
    Column("control", "control"),
    Column("sparsity", "sparsity"),
    Column("difference", "difference from its control, points", spread=True),
    Column("p", "p", "two-sided paired t test, corrected after Holm"),
    Column("verdict", "verdict"),
)
_INTERVAL = "mean ± half the width of the 95 % t interval over seeds"
LEGEND = {
    BEST: "Pareto-optimal: no other method is as accurate, as sparse and as cheap to find.",
    UNLIKE: "averages runs of different environments.",
    CONFLICT: "has runs that gave another result when they were repeated.",
    ELSEWHERE: "starts from weights that are not the initial ones, and is not ranked.",
}
"""What the signs beside a mean say."""


class TrackView(NamedTuple):
    """One track of a board, with the names of the rows of its tables."""

    board: Board
    own: TrackBoard
    cells: pd.DataFrame
    """The cells of the track with the column `row`."""
    max_rows: int
    """The most rows of one table, so that the page does not grow too large."""

    def href(self, method: str) -> str:
        """Return the address of the cells of a method in this track."""
        return f"method/{self.board.methods[method]}.html#{self.own.slug}"


def track_view(board: Board, own: TrackBoard) -> TrackView:
    """Prepare a track of a board for its tables."""
    # Three tables of a page can have a cell for each row and sparsity.
    row_bytes = 4 * _CELL_BYTES * own.cells["density_asked"].nunique() + _ROW_BYTES
    return TrackView(board, own, with_rows(own.cells), max(20, _PAGE_BYTES // row_bytes))


def accuracy_tables(view: TrackView) -> list[Table]:
    """Return the tables of accuracy: tickets at initialization, other tickets, and controls."""
    order = ranking.ranked(view.cells)
    controls = set(view.cells.loc[view.cells["control"] != "none", "row"])
    # The control of such a ticket is among the other controls.
    rewound = ranking.rewound_rows(view.cells) - controls
    sparsity = sparsity_percent(ranking.median_density(view.cells))
    parts = (
        (
            "ranked",
            "Ranking",
            [name for name in order if name not in rewound | controls],
            f"{_ranking_caption(view)} Costs are those at this sparsity.",
        ),
        (
            "elsewhere",
            "Not at initialization",
            [name for name in order if name in rewound],
            "Tickets that start from weights which their search produced. Pruning at initialization"
            " does not know these weights, so the tickets are not ranked. Accuracy in percent: "
            f"{_INTERVAL}; costs at {sparsity} sparsity.",
        ),
        (
            "controls",
            "Controls",
            [name for name in order if name in controls],
            "Masks shuffled within each layer, masks that keep the lowest scores, and masks "
            f"trained from new initial weights. Accuracy in percent: {_INTERVAL}; costs at "
            f"{sparsity} sparsity.",
        ),
    )
    return [
        _by_sparsity(view, id, title, caption, names, accuracy, summary=True)
        for id, title, names, caption in parts
        if names
    ]


def difference_tables(view: TrackView) -> list[Table]:
    """Return the gain of each row over each random floor at each sparsity, if there are pairs."""
    tables = []
    for floor, prefix in FLOORS.items():
        # Random is a reference here, and dense is not pruned.
        own = view.cells[~view.cells["row"].isin([floor, "random", "dense"])]
        rows = set(own["row"])
        names = [name for name in ranking.ranked(view.cells) if name in rows]
        pairs = own[f"pair_{prefix}n" if prefix else "random_n"].sum()
        if not names or not pairs:
            continue
        caption = (
            f"Accuracy minus the accuracy of {floor}, in points, in pairs of equal sparsity and "
            "seed: mean ± half the width of the 95 % t interval. p values are corrected after "
            "Holm. A method beats random pruning only if it beats both floors: random, and random "
            "with ERK quotas."
        )
        to_cell = partial(difference, prefix=prefix)
        id = f"differences{'-erk' if prefix else ''}"
        tables.append(_by_sparsity(view, id, f"Against {floor}", caption, names, to_cell))
    return tables


def control_table(view: TrackView) -> Table | None:
    """Return a row for each control of each method at each sparsity, or None without pairs."""
    own = of_track(view.board.control_verdicts, view.own.track)
    if own.empty:
        return None
    order = {name: index for index, name in enumerate(ranking.ranked(view.cells))}
    own = own.assign(order=own["method_label"].map(order).fillna(len(order)))
    own = own.sort_values(
        ["order", "method_label", "control", "density_asked"], ascending=[True, True, True, False]
    )
    limit = 6 * view.max_rows  # these rows are narrow
    return Table(
        id="verdicts",
        title="What the controls say",
        caption=(
            "Accuracy of a method minus that of its control, in points, in pairs of equal sparsity "
            "and seed: mean ± half the width of the 95 % t interval. Shuffle keeps the number of "
            "weights of each layer, at random positions; reinit keeps the mask, with new initial "
            "weights; invert keeps the weights with the lowest scores."
        ),
        head="method",
        columns=CONTROL_COLUMNS,
        rows=tuple(_control_row(view, pair) for pair in own.head(limit).to_dict("records")),
        cut=len(own) if len(own) > limit else 0,
    )


def supermask_table(view: TrackView) -> Table | None:
    """Return the accuracy of supermasks without any training of weights, or None without any."""
    own = of_track(view.board.supermasks, view.own.track).to_dict("records")
    if not own:
        return None
    cells = {(cell["method_label"], cell["density_asked"]): cell for cell in own}
    columns = densities(view.cells)
    methods = sorted({(cell["method_label"], cell["method"]) for cell in own})
    rows = tuple(
        Row(
            clean(label),
            view.href(method),
            tuple(_supermask(cells.get((label, density))) for density in columns),
        )
        for label, method in methods[: view.max_rows]
    )
    return Table(
        id="supermasks",
        title="Supermasks before training",
        caption=(
            "Accuracy in percent of supermasks as their own search deploys them, without any "
            f"training of the weights: {_INTERVAL}. They are not ranked. A search may end at "
            "another sparsity than that of the column; the cell then says at which."
        ),
        head="method",
        columns=density_columns(columns),
        rows=rows,
        cut=len(methods) if len(methods) > len(rows) else 0,
    )


def published_table(view: TrackView) -> Table | None:
    """Return the published figures with our nearest cells, or None if there are none."""
    if view.own.reproduction.empty:
        return None
    names = view.cells.drop_duplicates("method_label")
    hrefs = {
        label: view.href(method)
        for label, method in zip(names["method_label"], names["method"], strict=True)
    }
    table = as_table(view.own.track, view.own.reproduction, hrefs)
    cut = len(table.rows) if len(table.rows) > view.max_rows else 0
    # The title of the page names the model and the data set already.
    return table._replace(title="Published figures", rows=table.rows[: view.max_rows], cut=cut)


def index_table(view: TrackView, tables: Iterable[Table], title: str) -> Table:
    """Return the first rows of a ranking for the start page, without their costs."""
    id = f"on-{view.own.slug}"
    ranked = next((table for table in tables if table.id == "ranked"), None)
    if ranked is None:
        return Table(id, title, "No method of this track can be ranked.", "method", (), ())
    # The densest column has the dense reference; of the others, those with most results are shown.
    spread = [index for index, column in enumerate(ranked.columns) if column.spread]
    results = {index: sum(bool(row.cells[index].n) for row in ranked.rows) for index in spread}
    fullest = sorted(spread, key=lambda index: (index > 0, -results[index], index))
    indices = sorted(fullest[:_INDEX_DENSITIES])
    keys = ("critical", "area", "verdict", "mark")
    indices += [index for index, column in enumerate(ranked.columns) if column.key in keys]
    rows = tuple(
        row._replace(cells=tuple(row.cells[index] for index in indices))
        for row in ranked.rows[:_INDEX_ROWS]
    )
    total = ranked.cut or len(ranked.rows)
    more = f" These are the first {len(rows)} of {total} rows." if total > len(rows) else ""
    return Table(
        id=id,
        title=title,
        caption=_ranking_caption(view) + more,
        head="method",
        columns=tuple(ranked.columns[index] for index in indices),
        rows=rows,
        notes=_legend(rows),
    )


def difference(cell: SummaryRow | None, prefix: str = "") -> Cell:
    """Return the gain of a cell over a random floor in pairs of equal seeds, with the verdict.

    `prefix` is that of the columns of the floor, see `FLOORS`; the verdict is on both floors.
    """
    if cell is None:
        return Cell(GAP)
    pair = {name: cell[f"pair_{prefix}{name}"] for name in ("n", "difference", "half", "p_holm")}
    n, verdict = number(pair["n"]), cell["pair_verdict"]
    mean, half = number(pair["difference"]), number(pair["half"])
    # Cells that are not at initialization, and controls, are compared but not tested.
    if not prefix and n is None and (mean := number(cell["random_difference"])) is not None:
        n, half, verdict = int(cell["random_n"]), number(cell["random_half"]), "not tested"
    if mean is None or not n:
        return Cell("no pairs", n=0)
    p = number(pair["p_holm"])
    detail = [str(verdict), *([f"p = {p:.2g}"] if p is not None else []), f"n = {int(n)}"]
    return Cell(
        signed(mean, half),
        ", ".join(detail),
        value=round(100 * mean, 4),
        half=None if half is None else round(100 * half, 4),
        n=int(n),
    )


def cost(cell: SummaryRow | None, name: str, scale: float = 1) -> Cell:
    """Return a mean cost with its n."""
    mean = number(cell[f"{name}_mean"]) if cell is not None else None
    if cell is None or mean is None:
        return Cell(GAP)
    n = int(cell[f"{name}_n"])
    return Cell(amount(mean * scale), f"n = {n}", value=round(mean * scale, 4), n=n)


def _by_sparsity(
    view: TrackView,
    id: str,
    title: str,
    caption: str,
    names: list[str],
    to_cell: Callable[[SummaryRow | None], Cell],
    summary: bool = False,
) -> Table:
    """Return a table with a column for each sparsity, and with `summary` also a row's summary."""
    row_names = names[: view.max_rows]
    columns = densities(view.cells)
    by_row = cells_by_row(view.cells[view.cells["row"].isin(row_names)])
    middle = ranking.median_density(view.cells)
    rows = []
    for name in row_names:
        by_density = by_row[name]
        cells = [to_cell(by_density.get(density)) for density in columns]
        # All cells of a row have the same method and control.
        any_cell = next(iter(by_density.values()))
        if summary:
            key = (*view.own.track, any_cell["method_label"], any_cell["control"])
            # Dense has no cell at the middle density, so its costs are those at density 1.
            costs = by_density.get(middle, by_density.get(1.0))
            cells += _summary_cells(view.board.rows.get(key, {}), by_density, costs)
        rows.append(Row(clean(name), view.href(any_cell["method"]), tuple(cells)))
    return Table(
        id=id,
        title=title,
        caption=caption,
        head="method",
        columns=(*density_columns(columns), *SUMMARY_COLUMNS * summary),
        rows=tuple(rows),
        cut=len(names) if len(names) > len(row_names) else 0,
        notes=_legend(rows),
    )


def _ranking_caption(view: TrackView) -> str:
    sparsity = sparsity_percent(ranking.median_density(view.cells))
    return (
        f"Accuracy in percent at the last epoch, by sparsity: {_INTERVAL}; {GAP} if no run was "
        f"asked for. Rows are in order of the mean at {sparsity} sparsity."
    )


def _legend(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return what the signs and groups in these rows mean; what does not occur is not explained."""
    cells = [cell for row in rows for cell in row.cells]
    signs = {sign for cell in cells for sign in cell.marks}
    notes = [f"{sign} {meaning}" for sign, meaning in LEGEND.items() if sign in signs]
    if any(cell.group for cell in cells):
        notes.append(
            "Methods of one group at a sparsity have intervals that overlap with that of the best "
            "method of the group; read them as equal."
        )
    return tuple(notes)


def _summary_cells(
    summary: Mapping[Any, Any], by_density: Mapping[float, SummaryRow], costs: SummaryRow | None
) -> Iterable[Cell]:
    """Yield the cells of `SUMMARY_COLUMNS` for one row; `costs` is the cell of its costs."""
    yield _critical(summary)
    yield _area(summary)
    yield _beats_random(by_density.values())
    yield cost(costs, "accuracy_best", 100)
    yield cost(costs, "search_epochs")
    yield cost(costs, "search_seconds")
    yield cost(costs, "peak_memory_mb")
    yield _multiply_adds(costs)
    yield _verification(by_density.values())


def _critical(summary: Mapping[Any, Any]) -> Cell:
    density, n = number(summary.get("critical_density")), int(summary.get("n", 0))
    if density is None:
        return Cell(GAP, str(summary.get("critical_reason", "")))
    # If even the sparsest cell is within one point, the critical sparsity lies beyond it.
    at_least = "at least " if summary["beyond"] else ""
    sparsity = round(100 * (1 - density), 9)
    return Cell(f"{at_least}{sparsity_percent(density)}", f"n = {n}", value=sparsity, n=n)


def _area(summary: Mapping[Any, Any]) -> Cell:
    area, n = number(summary.get("area")), int(summary.get("n", 0))
    if area is None:
        return Cell(GAP, str(summary.get("area_reason", "")))
    return Cell(f"{area:.3f}", f"n = {n}", value=round(area, 6), n=n)


def _beats_random(cells: Iterable[SummaryRow]) -> Cell:
    """Return at how many of the tested sparsities a row beats both random floors."""
    verdicts = Counter(str(cell["pair_verdict"]) for cell in cells if number(cell["pair_n"]))
    if not verdicts:
        return Cell(GAP)
    # A cell with too few seeds has no test, so it counts neither for nor against the method.
    tested = verdicts.total() - verdicts[VERDICTS["too few seeds"]]
    if not tested:
        return Cell("too few seeds", f"at all {verdicts.total()}")
    beats, worse = verdicts[VERDICTS["better"]], verdicts[VERDICTS["worse"]]
    plain = sum(verdicts[VERDICTS[key]] for key in ("plain only", "no second floor", "floor"))
    detail = [f"at {beats} of {tested}", *([f"worse at {worse}"] if worse else [])]
    detail += [f"only without quotas at {plain}"] if plain else []
    text = "yes" if beats == tested else "in part" if beats else "not shown"
    return Cell(text, ", ".join(detail), value=beats)


def _multiply_adds(cell: SummaryRow | None) -> Cell:
    dense = number(cell["multiply_adds_dense_mean"]) if cell is not None else None
    sparse = number(cell["multiply_adds_sparse_mean"]) if cell is not None else None
    if cell is None or not dense or sparse is None:
        return Cell(GAP)
    n, share = int(cell["multiply_adds_sparse_n"]), 100 * sparse / dense
    return Cell(f"{share:.3g}", f"n = {n}", value=round(share, 6), n=n)


def _verification(cells: Iterable[SummaryRow]) -> Cell:
    """Return the lowest level of the cells that have an accuracy."""
    counts = Counter(str(cell["mark"]) for cell in cells if cell["accuracy_n"])
    # A row without any accuracy has nothing that could be verified.
    present = [level for level in LEVELS if counts[level]] or [LEVELS[0]]
    if len(present) == 1:
        return Cell(present[0])
    listed = ", ".join(f"{level} at {counts[level]}" for level in reversed(present))
    return Cell(present[0], f"{listed} sparsities")


def _control_row(view: TrackView, pair: dict[Any, Any]) -> Row:
    density, n, mean = float(pair["density_asked"]), int(pair["n"]), float(pair["difference"])
    half, p = number(pair["half"]), number(pair["p_holm"])
    cells = (
        Cell(str(pair["control"])),
        Cell(sparsity_percent(density), value=round(100 * (1 - density), 9)),
        Cell(
            signed(mean, half),
            f"n = {n}",
            value=round(100 * mean, 4),
            half=None if half is None else round(100 * half, 4),
            n=n,
        ),
        Cell(GAP) if p is None else Cell(f"{p:.2g}", value=float(f"{p:.6g}")),
        Cell(str(pair["verdict"])),
    )
    return Row(clean(pair["method_label"]), view.href(pair["method"]), cells)


def _supermask(cell: SummaryRow | None) -> Cell:
    if cell is None:
        return Cell(GAP)
    mean, half, n = float(cell["mean"]), number(cell["half"]), int(cell["n"])
    reached = number(cell["native_density"])
    detail = [f"at {sparsity_percent(reached)}"] if reached else []
    return Cell(
        percent(mean, half),
        ", ".join([*detail, f"n = {n}"]),
        value=round(100 * mean, 6),
        half=None if half is None else round(100 * half, 6),
        n=n,
    )

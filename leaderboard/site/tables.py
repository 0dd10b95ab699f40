"""The tables on the page of a track, and the head of its ranking on the start page."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from paibench.benchmark.record import FEWEST_SEEDS
from paibench.leaderboard.board import Board, TrackBoard
from paibench.leaderboard.format import (
    BEATS,
    BEST,
    CONFLICT,
    ELSEWHERE,
    GAP,
    UNLIKE,
    amount,
    clean,
    common_n,
    number,
    percent,
    row_name,
    signed,
    sparsity_percent,
)
from paibench.leaderboard.frame.citations import published
from paibench.leaderboard.frame.known import Known
from paibench.leaderboard.published.compare import as_table
from paibench.leaderboard.stats import ranking
from paibench.leaderboard.stats.floors import FLOORS, OUTCOMES
from paibench.leaderboard.stats.summary import of_track
from paibench.leaderboard.submission.verification_level import LEVELS
from paibench.leaderboard.tables import (
    INTERVAL,
    Cell,
    Column,
    Row,
    SummaryRow,
    Table,
    accuracy,
    cells_by_row,
    densities,
    density_columns,
    interval_cell,
    order_note,
    rank_set_text,
    with_rows,
)

_PAGE_BYTES = 1_600_000  # all tables of a page, so that it stays below 3 MB with its chart
_CELL_BYTES, _ROW_BYTES = 95, 700  # estimates
_INDEX_ROWS, _INDEX_DENSITIES = 12, 3
_TESTED = ("better", "worse", "between", "not significant")
_LEADING = ("rank", "verdict", "endpoint", "epochs", "uses")
"""What a reader must see without scrolling sideways, beside the accuracies."""
_INDEX_KEYS = ("rank", "verdict", "epochs", "uses", "paper", "mark")

SUMMARY_COLUMNS = (
    Column(
        "paper", "paper", "the usual name of the method, venue and year of its paper", words=True
    ),
    Column("uses", "uses", "the most that the search needs"),
    Column("endpoint", "endpoint, %", "mean log-odds over the sparsities of random, as accuracy"),
    Column("rank", "rank set", "the ranks that the endpoint may have, by comparisons of all pairs"),
    Column("verdict", "beats random", "Welch's tests of the endpoint against both random floors"),
    Column("critical", "critical sparsity", "the highest sparsity within one point of dense"),
    Column(
        "relative",
        "critical sparsity, relative",
        "the highest sparsity with at most 1.2 times the errors of dense",
    ),
    Column("area", "area", "under log-odds against log density, from random (0) to dense (1)"),
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
    Column("p", "p", "Welch's test of log-odds, corrected by Holm over the sparsities of a method"),
    Column("verdict", "verdict"),
)
DISAGREEMENT_COLUMNS = (
    Column("different", "differ from random", "methods with a significant difference"),
    Column("methods", "two methods differ, % of images", "exactly one of two runs is right"),
    Column("seeds", "two seeds differ, % of images", "the same for two runs of one method"),
    Column("ranks", "what follows", words=True),
)
LEGEND = {
    BEST: "Pareto-optimal: no other method is as accurate, as sparse and as cheap to find.",
    BEATS: "beats both random floors at this sparsity.",
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
            f"{_ranking_caption(view)} Costs are those at {sparsity} sparsity.",
        ),
        (
            "elsewhere",
            "Not at initialization",
            [name for name in order if name in rewound],
            "Tickets that start from weights which their search produced. Pruning at initialization"
            " does not know these weights, so the tickets are not ranked. Accuracy in percent: "
            f"{INTERVAL}; costs at {sparsity} sparsity.",
        ),
        (
            "controls",
            "Controls",
            [name for name in order if name in controls],
            "Masks shuffled within each layer, masks that keep the lowest scores, and masks "
            f"trained from new initial weights. Accuracy in percent: {INTERVAL}; costs at "
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
        own = own[own["control"] == "none"]
        rows = set(own["row"])
        names = [name for name in ranking.ranked(view.cells) if name in rows]
        if not names or not own[f"{prefix}n"].sum():
            continue
        caption = (
            f"Accuracy minus the accuracy of {floor}, in points, with the 95 % interval of Welch's "
            "test of log-odds. A method beats random pruning only if it beats both floors, so the "
            "larger of the two p values counts."
        )
        # Not in the caption, because a page shows at most 400 characters of a text.
        note = (
            "The endpoint is tested first; only if it is significant are the sparsities tested, "
            "corrected by Holm within the method. A verdict needs "
            f"{FEWEST_SEEDS} runs of the method and of each floor. No significant difference does "
            "not mean as good as random."
        )
        to_cell = partial(difference, prefix=prefix)
        id = "differences" if floor == "random" else "differences-erk"
        table = _by_sparsity(view, id, f"Against {floor}", caption, names, to_cell)
        tables.append(table._replace(notes=(*table.notes, note)))
    return tables


def disagreement_table(view: TrackView) -> Table | None:
    """Return a row for each sparsity at which methods can be compared with random pruning."""
    own = of_track(view.board.disagreement, view.own.track)
    own = own[own["tested"] > 0].sort_values("density_asked", ascending=False)
    if own.empty:
        return None
    rows = []
    for line in own.to_dict("records"):
        shares = (number(line[name]) for name in ("methods", "seeds"))
        nobody = "This column ranks nobody: no method differs from random by more than chance."
        rows.append(
            Row(
                sparsity_percent(float(line["density_asked"])),
                "",
                (
                    Cell(f"{line['different']} of {line['tested']}", value=line["different"]),
                    *(
                        Cell(GAP) if share is None else Cell(f"{100 * share:.2f}", value=share)
                        for share in shares
                    ),
                    Cell("" if line["different"] else nobody),
                ),
            )
        )
    return Table(
        id="disagreement",
        title="Where methods differ",
        caption=(
            "How many methods differ from random pruning at each sparsity, by the verdicts above, "
            "and on how many images of the evaluation split two runs disagree: exactly one of them "
            f"predicts the label. {GAP}: no predictions are stored."
        ),
        head="sparsity",
        columns=DISAGREEMENT_COLUMNS,
        rows=tuple(rows),
    )


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
            "Accuracy of a method minus that of its control, in points, with the 95 % interval of "
            "Welch's test of log-odds. Shuffle keeps the number of "
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
            f"training of the weights: {INTERVAL}. They are not ranked. A search may end at "
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
    """Return the first rows of a ranking for the start page, in few columns.

    Of the sparsities, those are shown at which the methods differ most.
    """
    id = f"on-{view.own.slug}"
    ranked = next((table for table in tables if table.id == "ranked"), None)
    if ranked is None:
        return Table(id, title, "No method of this track can be ranked.", "method", (), ())
    # The dense network, which has another sparsity, is in the headline.
    pruned = [row for row in ranked.rows if row.name != "dense"]
    keys = [column.key for column in ranked.columns]
    own = view.cells[view.cells["row"].isin([row.name for row in pruned])]
    means = own[own["accuracy_n"] > 0].groupby("density_asked")["accuracy_log_odds"]
    differing = means.std(ddof=0).nlargest(_INDEX_DENSITIES).index
    accuracies = sorted(keys.index(f"d{density:g}") for density in differing)
    indices = accuracies + [
        keys.index(key) for key in _INDEX_KEYS if key != "mark" or view.board.public
    ]
    usual = common_n(own["accuracy_n"])
    rows = tuple(
        row._replace(
            cells=tuple(_short(row.cells[index], index in accuracies, usual) for index in indices)
        )
        for row in pruned[:_INDEX_ROWS]
    )
    total = (ranked.cut or len(ranked.rows)) - len(ranked.rows) + len(pruned)
    more = f" These are the first {len(rows)} of {total} rows." if total > len(rows) else ""
    return Table(
        id=id,
        title=title,
        caption=f"Accuracy in percent with 95 % interval; n = {usual} if a cell has none.{more}",
        head="method",
        columns=tuple(ranked.columns[index] for index in indices),
        rows=rows,
        notes=(order_note(view.cells), *_legend(rows)),
    )


def _short(cell: Cell, is_accuracy: bool, usual: int) -> Cell:
    """Return a cell without the usual n, and without a rank at one sparsity."""
    cell = _without(cell, f"n = {usual}")
    if not is_accuracy:
        return cell
    kept = [part for part in cell.detail.split(", ") if part.startswith(("n = ", "collapsed "))]
    return cell._replace(detail=", ".join(kept))


def _without(cell: Cell, words: str) -> Cell:
    """Return a cell without one part of its detail."""
    return cell._replace(detail=", ".join(p for p in cell.detail.split(", ") if p != words))


def headline(view: TrackView) -> str:
    """Return the result of a track in a few sentences, from the endpoints of its methods.

    Methods whose search trains the weights are named as a reference, if they are better.
    """
    rows = _endpoint_rows(view)
    floors = [row for row in rows if row["method_label"] in FLOORS]
    methods = [row for row in rows if row["method_label"] not in FLOORS]
    trained = [row for row in methods if row["uses"] == "trained weights"]
    others = [row for row in methods if row not in trained] or methods
    if not others or not floors:
        return "There is no method to compare with random pruning."
    best, floor = (max(part, key=lambda row: row["accuracy"]) for part in (others, floors))
    own = f"{best['text']} %, rank {best['rank']}"
    sentences = [
        f"{best['name']} has the highest mean over all sparsities, {own}; {floor['name']} has "
        f"{floor['text']} %."
        if best["accuracy"] > floor["accuracy"]
        else f"Random pruning has the highest mean over all sparsities: {floor['name']} "
        f"{floor['text']} %; {best['name']} has {own}."
    ]
    top = max(trained, key=lambda row: row["accuracy"], default=best)
    if top["accuracy"] > max(best["accuracy"], floor["accuracy"]):
        sentences.append(f"{top['name']}, whose search trains the weights, has {top['text']} %.")
    tested = [row for row in methods if row["outcome"] in _TESTED]
    better = sum(row["outcome"] == "better" for row in tested)
    if len(tested) == 1:
        verb = "beats" if better else "does not beat"
        sentences.append(f"{tested[0]['name']} {verb} both random floors.")
    elif tested:
        verb = "beats" if better < 2 else "beat"
        sentences.append(f"{better or 'None'} of {len(tested)} methods {verb} both random floors.")
    else:
        sentences.append(f"With {best['n']} seeds, there is no verdict.")
    dense = view.cells[(view.cells["method"] == "dense") & (view.cells["accuracy_n"] > 0)]
    for cell in dense.head(1).to_dict("records"):
        ends = number(cell["accuracy_low"]), number(cell["accuracy_high"])
        sentences.append(f"The dense network has {percent(cell['accuracy_mean'], *ends)} %.")
    return " ".join(sentences)


def _endpoint_rows(view: TrackView) -> list[dict[str, Any]]:
    """Return what `headline` says of each method that has a rank."""
    rows = []
    names = view.cells[["method_label", "control"]].drop_duplicates()
    for label, control in names.itertuples(index=False):
        row = view.board.rows.get((*view.own.track, label, control), {})
        accuracy = number(row.get("endpoint_accuracy"))
        if accuracy is None or number(row.get("best_rank")) is None:
            continue
        known = view.board.known.get(label)
        rows.append(
            {
                "method_label": label,
                "name": clean(row_name(label, control)),
                "uses": known.uses if known else "",
                "accuracy": accuracy,
                "text": percent(accuracy, row["endpoint_low"], row["endpoint_high"]),
                "rank": rank_set_text(row),
                "outcome": row.get("endpoint_outcome"),
                "n": int(row["endpoint_n"]),
            }
        )
    return rows


def difference(cell: SummaryRow | None, prefix: str = FLOORS["random"]) -> Cell:
    """Return the gain of a cell over a random floor, with the verdict on both floors.

    `prefix` is that of the columns of the floor, see `FLOORS`.
    """
    if cell is None:
        return Cell(GAP)
    mean, n = number(cell[f"{prefix}difference"]), number(cell[f"{prefix}n"])
    if mean is None or not n:
        return Cell("not compared", n=0)
    detail = [OUTCOMES[cell["outcome"]], *_p(cell["p"]), f"n = {int(cell['accuracy_n'])}, {int(n)}"]
    ends = cell[f"{prefix}low"], cell[f"{prefix}high"]
    return interval_cell(mean, *ends, int(min(n, cell["accuracy_n"])), detail, signed)


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
    usual = common_n(view.cells["accuracy_n"])
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
            cells += _about(view.board.known.get(any_cell["method_label"]))
            cells += _summary_cells(
                view.board.rows.get(key, {}), by_density, costs, view.board.public
            )
            cells = [_without(cell, f"n = {usual}") for cell in cells]
        rows.append(Row(clean(name), view.href(any_cell["method"]), tuple(cells)))
    table = Table(
        id=id,
        title=title,
        caption=f"{caption} n = {usual} if a cell has none." if summary else caption,
        head="method",
        columns=(*density_columns(columns), *SUMMARY_COLUMNS * summary),
        rows=tuple(rows),
        cut=len(names) if len(names) > len(row_names) else 0,
        notes=_legend(rows),
    )
    return _leading(table)


def _leading(table: Table) -> Table:
    """Return the table with the columns of `_LEADING` first, and the dense one after others."""
    keys = [column.key for column in table.columns]
    sparse = [key for key in keys if re.fullmatch(r"d0\.\d+|d\d\S*e-\d+", key)]
    first = [key for key in _LEADING if key in keys] + sparse
    order = [keys.index(key) for key in (*first, *(key for key in keys if key not in first))]
    return table._replace(
        columns=tuple(table.columns[index] for index in order),
        rows=tuple(
            row._replace(cells=tuple(row.cells[index] for index in order)) for row in table.rows
        ),
    )


def _ranking_caption(view: TrackView) -> str:
    return (
        f"Accuracy in percent at the last epoch, by sparsity: {INTERVAL}; {GAP} if no run was "
        f"asked for. {order_note(view.cells)}"
    )


def _legend(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return what the signs and ranks in these rows mean; what does not occur is not explained."""
    cells = [cell for row in rows for cell in row.cells]
    signs = {sign for cell in cells for sign in cell.marks}
    notes = [f"{sign} {meaning}" for sign, meaning in LEGEND.items() if sign in signs]
    if any(cell.best for cell in cells):
        notes.append(
            "Rank 2–5 of 9: by comparisons of all pairs (Games and Howell, log-odds), one method "
            "is significantly better and four are worse. Methods whose ranks overlap are not told "
            f"apart. Ranks of fewer than {FEWEST_SEEDS} runs are provisional. One configuration of "
            "each method is ranked."
        )
    return tuple(notes)


def _about(known: Known | None) -> tuple[Cell, Cell]:
    """Return the first two cells of `SUMMARY_COLUMNS`; nothing is known of third parties."""
    if known is None:
        return Cell(GAP), Cell(GAP)
    return Cell(published(known)), Cell(known.uses or GAP)


def _summary_cells(
    summary: Mapping[Any, Any],
    by_density: Mapping[float, SummaryRow],
    costs: SummaryRow | None,
    public: bool,
) -> Iterable[Cell]:
    """Yield the rest of `SUMMARY_COLUMNS` for one row; `costs` is the cell of its costs."""
    yield _endpoint(summary)
    level = _verification(by_density.values())
    yield _rank_set(summary, level.text if public else "")
    yield _beats_random(summary, by_density.values())
    yield _critical(summary, "critical")
    yield _critical(summary, "relative")
    yield _area(summary)
    yield cost(costs, "accuracy_best", 100)
    yield cost(costs, "search_epochs")
    yield cost(costs, "search_seconds")
    yield cost(costs, "peak_memory_mb")
    yield _multiply_adds(costs)
    yield level


def _endpoint(summary: Mapping[Any, Any]) -> Cell:
    mean = number(summary.get("endpoint_accuracy"))
    if mean is None:
        return Cell(GAP)
    n = int(summary["endpoint_n"])
    ends = summary["endpoint_low"], summary["endpoint_high"]
    return interval_cell(mean, *ends, n, [f"n = {n}"])


def _rank_set(summary: Mapping[Any, Any], mark: str) -> Cell:
    """Return the rank set of the endpoint, with a verification level that must stand beside it."""
    if number(summary.get("best_rank")) is None:
        return Cell(GAP)
    n = int(summary["endpoint_n"])
    detail = [mark, f"provisional, n = {n}" if n < FEWEST_SEEDS else ""]
    text = rank_set_text(summary)
    return Cell(text, ", ".join(filter(None, detail)), value=int(summary["best_rank"]))


def _beats_random(summary: Mapping[Any, Any], cells: Iterable[SummaryRow]) -> Cell:
    """Return the verdict on the endpoint, and at how many sparsities it holds."""
    outcome = summary.get("endpoint_outcome")
    if not isinstance(outcome, str):
        return Cell(GAP)
    beaten = sum(cell["outcome"] == "better" for cell in cells)
    texts = {"better": "yes", "worse": "worse", "between": "one floor only"}
    texts |= {"not significant": "not shown", "too few seeds": "too few seeds", "floor": "floor"}
    at = [f"at {beaten} sparsit{'y' if beaten == 1 else 'ies'}"] if outcome == "better" else []
    words = [] if OUTCOMES[outcome] == texts[outcome] else [OUTCOMES[outcome]]
    detail = [*words, *_p(summary["endpoint_p"]), *at]
    return Cell(texts[outcome], ", ".join(detail), value=beaten)


def _p(p: Any) -> list[str]:
    return [] if number(p) is None else [f"p = {p:.2g}"]


def _critical(summary: Mapping[Any, Any], form: str) -> Cell:
    """Return the critical sparsity in one of its two forms, "critical" or "relative"."""
    density, n = number(summary.get(f"{form}_density")), int(summary.get("n", 0))
    sure, possible = (number(summary.get(f"{form}_{end}")) for end in ("sure", "possible"))
    ends = [sparsity_percent(sure) if sure else "none", sparsity_percent(possible or 1.0)]
    interval = f"95 % interval: {ends[0]} to {ends[1]}"
    if density is None:
        return Cell(GAP, str(summary.get(f"{form}_reason", "")))
    # If even the sparsest cell is within one point, the critical sparsity lies beyond it.
    at_least = "at least " if summary[f"{form}_beyond"] else ""
    sparsity = round(100 * (1 - density), 9)
    detail = f"{interval}, n = {n}" if n > 1 else f"n = {n}"
    return Cell(f"{at_least}{sparsity_percent(density)}", detail, value=sparsity, n=n)


def _area(summary: Mapping[Any, Any]) -> Cell:
    area, n = number(summary.get("area")), int(summary.get("n", 0))
    if area is None:
        return Cell(GAP, str(summary.get("area_reason", "")))
    low, high = number(summary["area_low"]), number(summary["area_high"])
    ends = [] if low is None or high is None else [f"{low:.3f} to {high:.3f}"]
    return Cell(f"{area:.3f}", ", ".join([*ends, f"n = {n}"]), value=round(area, 6), n=n)


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
    p = number(pair["p"])
    cells = (
        Cell(str(pair["control"])),
        Cell(sparsity_percent(density), value=round(100 * (1 - density), 9)),
        interval_cell(mean, pair["low"], pair["high"], n, [f"n = {n}"], signed),
        Cell(GAP) if p is None else Cell(f"{p:.2g}", value=float(f"{p:.6g}")),
        Cell(str(pair["verdict"])),
    )
    return Row(clean(pair["method_label"]), view.href(pair["method"]), cells)


def _supermask(cell: SummaryRow | None) -> Cell:
    if cell is None:
        return Cell(GAP)
    mean, n = float(cell["mean"]), int(cell["n"])
    reached = number(cell["native_density"])
    detail = [f"at {sparsity_percent(reached)}"] if reached else []
    return interval_cell(mean, cell["low"], cell["high"], n, [*detail, f"n = {n}"])

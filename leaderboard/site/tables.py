"""A table of the site as plain values: what stands in each cell, what it sorts by, its n."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from paibench.leaderboard.board import TrackBoard
from paibench.leaderboard.format import (
    BEST,
    GAP,
    amount,
    clean,
    number,
    percent,
    row_name,
    signed,
    sparsity_percent,
)
from paibench.leaderboard.published.compare import as_table
from paibench.leaderboard.site.cd_diagram import Diagram, diagram
from paibench.leaderboard.stats import ranking
from paibench.leaderboard.stats.cross_track import CrossTrackComparison
from paibench.leaderboard.stats.summary import CELL, Track, of_track, tracks
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


def difference(cell: SummaryRow | None) -> Cell:
    """What a cell gains over random pruning in pairs of equal seeds, and the verdict in words."""
    if cell is None:
        return Cell(GAP)
    n, verdict = number(cell["pair_n"]), cell["pair_verdict"]
    mean, half = number(cell["pair_difference"]), number(cell["pair_half"])
    if n is None and (mean := number(cell["random_difference"])) is not None:
        n, half, verdict = int(cell["random_n"]), number(cell["random_half"]), "not tested"
    if mean is None or not n:
        return Cell("no pairs", "", None, None, 0)
    p = number(cell["pair_p_holm"])
    detail = [str(verdict), *([f"p = {p:.2g}"] if p is not None else []), f"n = {int(n)}"]
    shown_half = None if half is None else round(100 * half, 4)
    return Cell(signed(mean, half), ", ".join(detail), round(100 * mean, 4), shown_half, int(n))


def cost(cell: SummaryRow | None, name: str, scale: float = 1, digits: int = 3) -> Cell:
    """A mean cost with its n."""
    mean = number(cell[f"{name}_mean"]) if cell is not None else None
    if cell is None or mean is None:
        return Cell(GAP)
    n = int(cell[f"{name}_n"])
    return Cell(amount(mean * scale, digits), f"n = {n}", round(mean * scale, 4), None, n)


# tail: The columns behind the sparsities: what sums a row up, and what it costs at one density.

SUMMARY_COLUMNS = (
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


def summary_cells(
    summed: dict[Any, Any], by_density: dict[float, SummaryRow], where: SummaryRow | None
) -> Iterable[Cell]:
    """The items of a row in `COLUMNS`, from its `critical`, its cells, and the one of its costs."""
    yield _critical(summed)
    yield _area(summed)
    yield _beats(by_density.values())
    yield cost(where, "accuracy_best", 100)
    yield cost(where, "search_epochs")
    yield cost(where, "search_seconds")
    yield cost(where, "peak_memory_mb")
    yield _multiply_adds(where)
    yield _mark(by_density.values())


def _critical(summed: dict[Any, Any]) -> Cell:
    density, n = number(summed.get("critical_density")), int(summed.get("n", 0))
    if density is None:
        return Cell(GAP, str(summed.get("critical_reason", "")))
    beyond = "at least " if summed["beyond"] else ""
    sparsity = round(100 * (1 - density), 9)
    return Cell(f"{beyond}{sparsity_percent(density)}", f"n = {n}", sparsity, None, n)


def _area(summed: dict[Any, Any]) -> Cell:
    area, n = number(summed.get("area")), int(summed.get("n", 0))
    if area is None:
        return Cell(GAP, str(summed.get("area_reason", "")))
    return Cell(f"{area:.3f}", f"n = {n}", round(area, 6), None, n)


def _beats(cells: Iterable[SummaryRow]) -> Cell:
    """At how many of the tested sparsities a row beats random."""
    verdicts = [str(cell["pair_verdict"]) for cell in cells if number(cell["pair_n"])]
    if not verdicts:
        return Cell(GAP)
    beats = verdicts.count("beats random")
    tested = len([word for word in verdicts if word != "too few seeds"])
    if not tested:
        return Cell("too few seeds", f"at all {len(verdicts)}")
    worse = verdicts.count("worse than random")
    detail = f"worse at {worse}" if worse else ""
    word = "beats random" if beats == tested else "in part" if beats else "not shown"
    return Cell(f"{word}", ", ".join(filter(None, [f"at {beats} of {tested}", detail])), beats)


def _mark(cells: Iterable[SummaryRow]) -> Cell:
    """The mark of a row: that of the least of its cells that have an accuracy."""
    counts = Counter(str(cell["mark"]) for cell in cells if cell["accuracy_n"])
    found = [kind for kind in LEVELS if counts[kind]]
    if len(found) < 2:
        return Cell(*found or LEVELS[:1])
    said = ", ".join(f"{kind} at {counts[kind]}" for kind in reversed(found))
    return Cell(found[0], f"{said} sparsities")


def _multiply_adds(cell: SummaryRow | None) -> Cell:
    dense = number(cell["multiply_adds_dense_mean"]) if cell is not None else None
    sparse = number(cell["multiply_adds_sparse_mean"]) if cell is not None else None
    if cell is None or not dense or sparse is None:
        return Cell(GAP)
    n = int(cell["multiply_adds_sparse_n"])
    share = 100 * sparse / dense
    return Cell(f"{share:.3g}", f"n = {n}", round(share, 6), None, n)


# method_boards: The tables of one method: every cell of it by track, with each of its runs.

_RUN_BYTES = 2_600_000  # of the tables of a page, so that it stays below 3 MB
_LINE, _LINK = 500, 46  # about what a cell and the link to a run take
_SHORT = 12  # digits of a key that say which run, among some hundred thousand
RUN_COLUMNS = (
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
    cells: tuple[Cell, ...]
    runs: tuple[Run, ...]


class Part(NamedTuple):
    """All cells of a method in one track."""

    track: Track
    slug: str
    lines: tuple[Line, ...]


def parts(
    cells: pd.DataFrame, runs: pd.DataFrame, tracks_shown: Mapping[Track, TrackBoard]
) -> tuple[list[Part], int]:
    """The cells of one method by track, and how many of them have no line for want of room."""
    found = _runs(runs)
    left, dropped, made = _RUN_BYTES, 0, []
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
        made.append(Part(track, tracks_shown[track].slug, tuple(lines)))
    return made, dropped


def _runs(runs: pd.DataFrame) -> dict[tuple[object, ...], list[Run]]:
    found: dict[tuple[object, ...], list[Run]] = {}
    columns = [runs[name].tolist() for name in (*CELL, "key", "seed", "status")]
    for *cell, key, seed, status in zip(*columns, strict=True):
        word = "" if status == "done" else str(status)
        found.setdefault(tuple(cell), []).append(Run(str(key)[:_SHORT], int(seed), word))
    return {cell: sorted(own, key=lambda run: (run.seed, run.key)) for cell, own in found.items()}


def _items(cell: SummaryRow) -> list[Cell]:
    density = float(cell["density_asked"])
    effective = number(cell["density_effective"])
    return [
        Cell(sparsity_percent(density), "", round(100 * (1 - density), 9)),
        accuracy(cell),
        difference(cell),
        _optional(cell, "accuracy_untrained"),
        _optional(cell, "native_accuracy"),
        Cell("–") if effective is None else Cell(f"{effective:.4g}", "", effective),
        cost(cell, "search_epochs"),
        cost(cell, "search_seconds"),
    ]


def _optional(cell: SummaryRow, measure: str) -> Cell:
    return accuracy(cell, measure) if cell[f"{measure}_n"] else Cell("–")


# across_boards: The comparison across tracks: mean ranks, the test, the diagram, who is above whom.

_MOST = 40  # methods in a diagram or a matrix that can still be read


class CrossTrackPart(NamedTuple):
    """The section of the start page: words, a diagram where there is a test, tables, gaps."""

    words: str
    diagram: Diagram | None
    boards: tuple[Table, ...]
    left_out: tuple[str, ...]


def across_part(found: CrossTrackComparison, slugs: dict[str, str]) -> CrossTrackPart:
    """The section from what was computed; `slugs` say where the page of a method label is."""
    names = list(found.mean_rank.index)
    left_out = tuple(map(clean, found.left_out))
    if not names:
        return CrossTrackPart(
            "No method has all its runs anywhere, so none are compared.", None, (), left_out
        )
    tested = not math.isnan(found.friedman_p)
    words = (
        f"Over the {len(found.blocks)} blocks (a track at a sparsity) in which {len(names)} "
        f"methods have all their runs, at least n = {found.n} behind each mean. "
    )
    words += (
        f"Friedman test that all are alike: p = {found.friedman_p:.2g}. Mean ranks closer than the "
        f"critical difference of {found.critical_difference:.2f} (Nemenyi, 0.05) are not told "
        "apart."
        if tested
        else f"There is no test: {found.reason}."
    )
    drawn = None
    if tested and len(names) <= _MOST:
        ranks = {name: float(found.mean_rank[name]) for name in names}
        drawn = diagram(ranks, found.critical_difference, found.cliques)
    boards = (_ranks(found, names, slugs), _wins(found, names[:_MOST], slugs, len(names)))
    return CrossTrackPart(words, drawn, boards, left_out)


def _ranks(found: CrossTrackComparison, names: list[str], slugs: dict[str, str]) -> Table:
    blocks = len(found.blocks)
    rows = [
        Row(
            clean(name),
            slugs[name],
            (
                Cell(
                    f"{found.mean_rank[name]:.2f}",
                    f"{blocks} blocks",
                    round(found.mean_rank[name], 4),
                ),
            ),
        )
        for name in names
    ]
    columns = (Column("rank", "mean rank"),)
    return Table("mean-ranks", "Mean ranks", "1 is best; equals share a rank.", "method", columns,
                 tuple(rows))  # fmt: skip


def _wins(
    found: CrossTrackComparison, names: list[str], slugs: dict[str, str], total: int
) -> Table:
    blocks = len(found.blocks)
    wins: dict[Any, int] = found.wins.stack().to_dict()
    ties: dict[Any, int] = found.ties.stack().to_dict()
    shares: dict[Any, float] = found.win_fraction.stack().to_dict()
    rows = []
    for name in names:
        items = [
            Cell("·") if name == other else _win(wins, ties, shares, (name, other))
            for other in names
        ]
        rows.append(Row(clean(name), slugs[name], tuple(items)))
    columns = tuple(Column(f"w{place}", clean(name)) for place, name in enumerate(names))
    caption = (
        f"In how many of {blocks} blocks the mean of the row's method is above the column's; "
        "sorted by share of blocks, a tie as half."
    )
    cut = total if total > len(names) else 0
    return Table("wins", "Win matrix", caption, "method", columns, tuple(rows), cut)


def _win(
    wins: dict[Any, int], ties: dict[Any, int], shares: dict[Any, float], pair: tuple[str, str]
) -> Cell:
    detail = f"{ties[pair]} equal" if ties[pair] else ""
    return Cell(str(wins[pair]), detail, round(100 * shares[pair], 3))


# track_boards: The tables of one track: ranked, not at initialization, controls, against random.

_BYTES = 1_600_000  # of all tables of a page, so that it stays below 3 MB with its chart
_CELL, _ROW = 95, 700


class Frames(NamedTuple):
    """The cells of one track, ready to be shown: a row name each, and where rows link to."""

    track: Track
    cells: pd.DataFrame
    slugs: Mapping[str, str]
    slug: str
    """The file name of the track, which is also where a method's page has its rows."""
    rows: Mapping[tuple[Any, ...], dict[Any, Any]]
    """Critical density and area of each row, by track, label and control."""
    at_most: int
    """How many rows each table may have."""


def frames(
    own: TrackBoard, slugs: Mapping[str, str], rows: Mapping[tuple[Any, ...], dict[Any, Any]]
) -> Frames:
    """The cells of a track with the column `row`, and how many rows its page can hold."""
    cells = with_rows(own.cells)
    width = 3 * _CELL * cells["density_asked"].nunique() + _ROW
    return Frames(own.track, cells, slugs, own.slug, rows, max(20, _BYTES // width))


def boards(shown: Frames) -> list[Table]:
    """The tables of accuracy: of tickets at initialization, of others, of controls."""
    cells = shown.cells
    order = ranking.ranked(cells)
    controls = set(cells.loc[cells["control"] != "none", "row"])
    late = ranking.rewound_rows(cells) - controls
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


def differences(shown: Frames) -> Table | None:
    """What each row gains over random pruning at each sparsity, with tests."""
    own = shown.cells[~shown.cells["row"].isin(["random", "dense"])]
    rows = set(own["row"])
    names = [name for name in ranking.ranked(shown.cells) if name in rows]
    if not names or not own["random_n"].sum():
        return None
    return _board(shown, "differences", "Against random", names, difference)


def _board(
    shown: Frames,
    key: str,
    title: str,
    names: list[str],
    item: Callable[[SummaryRow | None], Cell],
    tail: bool = False,
) -> Table:
    wanted = names[: shown.at_most]
    columns = densities(shown.cells)
    by_row = cells_by_row(shown.cells[shown.cells["row"].isin(wanted)])
    middle = ranking.median_density(shown.cells)
    rows = []
    for name in wanted:
        by_density = by_row[name]
        items = [item(by_density.get(density)) for density in columns]
        any_cell = next(iter(by_density.values()))
        if tail:
            where = by_density.get(middle, by_density.get(1.0))
            row = (*shown.track, any_cell["method_label"], any_cell["control"])
            items += summary_cells(shown.rows.get(row, {}), by_density, where)
        href = f"method/{shown.slugs[any_cell['method']]}.html#{shown.slug}"
        rows.append(Row(clean(name), href, tuple(items)))
    cut = len(names) if len(names) > len(wanted) else 0
    return Table(
        key,
        title,
        _captions(key, middle),
        "method",
        (*density_columns(columns), *SUMMARY_COLUMNS * tail),
        tuple(rows),
        cut,
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


# start_board: The head of a ranking for the start page.

_SHOWN_ROWS, _SHOWN_DENSITIES = 12, 7


def narrow(shown: Frames, found: list[Table], title: str) -> Table:
    """The head of a track's ranking for the start page: its first rows, without their costs."""
    ranked = next((board for board in found if board.id == "ranked"), None)
    if ranked is None:
        return Table(f"on-{shown.slug}", title, "No row of it can be ranked.", "method", (), ())
    spread = [place for place, column in enumerate(ranked.columns) if column.spread]
    filled = {place: sum(bool(row.cells[place].n) for row in ranked.rows) for place in spread}
    fullest = sorted(spread, key=lambda place: (place > 0, -filled[place], place))
    keys = ("critical", "area", "verdict", "mark")
    kept = [
        *sorted(fullest[:_SHOWN_DENSITIES]),
        *(p for p, c in enumerate(ranked.columns) if c.key in keys),
    ]
    rows = [
        row._replace(cells=tuple(row.cells[place] for place in kept))
        for row in ranked.rows[:_SHOWN_ROWS]
    ]
    columns = tuple(ranked.columns[place] for place in kept)
    total = ranked.cut or len(ranked.rows)
    more = f" The first {len(rows)} of {total} rows." if total > len(rows) else ""
    return Table(f"on-{shown.slug}", title, ranked.caption + more, "method", columns, tuple(rows))


# verdict_boards: What the controls of each method say, in words.

_CONTROL_COLUMNS = (
    Column("control", "control"),
    Column("sparsity", "sparsity"),
    Column("difference", "minus its control", spread=True),
    Column("p", "p", "two-sided paired t test, corrected after Holm"),
    Column("verdict", "verdict"),
)
_CONTROL_CAPTION = (
    "Accuracy of a method minus that of its control, in points, in pairs of equal sparsity and "
    "seed: mean ± half the width of the 95 % t interval. Shuffle keeps how many weights each "
    "layer has, at random places; reinit keeps the mask, with fresh weights; invert keeps the "
    "lowest scores."
)


def verdicts(shown: Frames, controls: pd.DataFrame) -> Table | None:
    """A row for each control of each method at each sparsity; None where there are no pairs."""
    found = of_track(controls, shown.track)
    if found.empty:
        return None
    order = {name: place for place, name in enumerate(ranking.ranked(shown.cells))}
    found = found.assign(place=found["method_label"].map(order).fillna(len(order)))
    found = found.sort_values(
        ["place", "method_label", "control", "density_asked"], ascending=[True, True, True, False]
    )
    cut = len(found) if len(found) > 6 * shown.at_most else 0
    rows = [_control_row(shown, pair) for pair in found.head(6 * shown.at_most).to_dict("records")]
    return Table(
        "verdicts",
        "What the controls say",
        _CONTROL_CAPTION,
        "method",
        _CONTROL_COLUMNS,
        tuple(rows),
        cut,
    )


def _control_row(shown: Frames, pair: dict[Any, Any]) -> Row:
    density, n = float(pair["density_asked"]), int(pair["n"])
    half, p = number(pair["half"]), number(pair["p_holm"])
    items = (
        Cell(str(pair["control"])),
        Cell(sparsity_percent(density), "", round(100 * (1 - density), 9)),
        Cell(
            signed(float(pair["difference"]), half),
            f"n = {n}",
            round(100 * float(pair["difference"]), 4),
            None if half is None else round(100 * half, 4),
            n,
        ),
        Cell("–") if p is None else Cell(f"{p:.2g}", "", float(f"{p:.6g}")),
        Cell(str(pair["verdict"])),
    )
    href = f"method/{shown.slugs[pair['method']]}.html#{shown.slug}"
    return Row(clean(pair["method_label"]), href, items)


# supermask_board: Supermasks as their own search would deploy them: a table of a class of its own.

_SUPERMASK_CAPTION = (
    "Accuracy in percent of supermasks as their own search would deploy them, without any training "
    "of the weights: mean ± half the width of the 95 % t interval over seeds. Not ranked; searches "
    "may end at another sparsity than the column's, which the cell says."
)


def supermasks(shown: Frames, found: pd.DataFrame) -> Table | None:
    """Accuracy of supermasks before any training of the weights, a class of its own."""
    own = of_track(found, shown.track).to_dict("records")
    cells = {(cell["method_label"], cell["density_asked"]): cell for cell in own}
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
    return Table(
        "supermasks",
        title,
        _SUPERMASK_CAPTION,
        "method",
        density_columns(columns),
        tuple(rows),
        cut,
    )


def _supermask(cell: SummaryRow | None) -> Cell:
    if cell is None:
        return Cell(GAP)
    mean, half, n = float(cell["mean"]), number(cell["half"]), int(cell["n"])
    reached = number(cell["native_density"])
    detail = [f"at {sparsity_percent(reached)}"] if reached else []
    spread = None if half is None else round(100 * half, 6)
    return Cell(
        percent(mean, half), ", ".join([*detail, f"n = {n}"]), round(100 * mean, 6), spread, n
    )


# published_board: Published figures beside ours on the page of a track; never ranked.


def published(shown: Frames, found: pd.DataFrame) -> Table | None:
    """Every published figure that a cell of ours stands beside; None where there is none."""
    if found.empty:
        return None
    names = shown.cells.drop_duplicates("method_label")
    methods = dict(zip(names["method_label"], names["method"], strict=True))
    hrefs = {
        label: f"method/{shown.slugs[method]}.html#{shown.slug}"
        for label, method in methods.items()
    }
    table = as_table(shown.track, found, hrefs)
    cut = len(table.rows) if len(table.rows) > shown.at_most else 0
    return table._replace(title="Published figures", rows=table.rows[: shown.at_most], cut=cut)

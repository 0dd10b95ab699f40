"""The comparison across tracks on the start page: mean ranks, a test and a win matrix."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from paibench.leaderboard import format
from paibench.leaderboard.format import clean
from paibench.leaderboard.stats.cross_track import CrossTrackComparison
from paibench.leaderboard.tables import Cell, Column, Row, Table

_READABLE = 40  # the most methods in a diagram or a matrix that can still be read
_WIDTH, _LEFT, _RIGHT = 960, 300, 660  # pixels
_NAME = 40  # characters of a name that fit beside the axis
_TOP, _STEP, _BAR = 56, 20, 9


class DiagramMethod(NamedTuple):
    """A method in the diagram: its position on the axis, and the line that leads to its name."""

    name: str
    rank: str
    x: float
    y: float
    end: int
    anchor: str


class Diagram(NamedTuple):
    """The positions of everything in a critical-difference diagram.

    Bars join methods whose ranks do not differ significantly.
    """

    # scikit_posthocs draws the same diagram with matplotlib; this one is a part of the page, in the
    # colours of its theme, and can be read by a screen reader.
    width: int
    height: float
    axis: tuple[int, int, int]
    """Where the axis begins and ends, and its height."""
    ticks: tuple[tuple[float, str], ...]
    methods: tuple[DiagramMethod, ...]
    bars: tuple[tuple[float, float, float], ...]
    scale: tuple[float, float]
    critical: str
    description: str
    """The diagram in words, for readers who cannot see it."""


class CrossTrackSection(NamedTuple):
    """The section: a paragraph, a diagram if there is a test, tables, and what is left out."""

    paragraph: str
    diagram: Diagram | None
    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


def cross_track_section(
    comparison: CrossTrackComparison, hrefs: Mapping[str, str]
) -> CrossTrackSection:
    """Return the section for a comparison; `hrefs` has the page of each method label."""
    names = list(comparison.mean_rank.index)
    left_out = tuple(map(clean, comparison.left_out))
    if not names:
        nothing = "No method has all of its runs in any block, so no methods are compared."
        return CrossTrackSection(nothing, None, (), left_out)
    tested = not math.isnan(comparison.friedman_p)
    paragraph = (
        f"A block is one sparsity of one track. In {len(comparison.blocks)} blocks, {len(names)} "
        f"methods have all of their runs, with at least n = {comparison.n} runs behind each mean. "
    )
    paragraph += (
        f"Friedman test of equal methods: p = {comparison.friedman_p:.2g}. If two mean ranks differ"
        f" by less than the critical difference of {comparison.critical_difference:.2f} (Nemenyi "
        "test, 0.05), there is no significant difference."
        if tested
        else f"There is no test: {comparison.reason}."
    )
    layout = None
    if tested and len(names) <= _READABLE:
        ranks = {name: float(comparison.mean_rank[name]) for name in names}
        layout = diagram(ranks, comparison.critical_difference, comparison.cliques)
    tables = (_ranks(comparison, names, hrefs), _wins(comparison, names, hrefs))
    return CrossTrackSection(paragraph, layout, tables, left_out)


def diagram(
    ranks: Mapping[str, float], critical: float, cliques: Iterable[Iterable[str]]
) -> Diagram:
    """Lay out the diagram of Demšar (2006): mean ranks on a line, the best at the left."""
    order = sorted(ranks, key=lambda name: (ranks[name], name))
    worst = max(2, len(order))

    def x(rank: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (rank - 1) / (worst - 1), 2)

    groups = [list(group) for group in cliques]
    spans = sorted((min(ranks[n] for n in g), max(ranks[n] for n in g)) for g in groups if g)
    bars = [
        (x(low) - 3, x(high) + 3, _TOP + 12 + _BAR * index)
        for index, (low, high) in enumerate(spans)
    ]
    below = _TOP + 24 + _BAR * len(bars)
    # The better half has its names at the left, the other half at the right, in reverse order, so
    # that no two lines cross.
    half = (len(order) + 1) // 2
    methods = []
    for index, name in enumerate(order):
        left = index < half
        y = below + _STEP * (index if left else len(order) - 1 - index)
        end, anchor = (_LEFT - 16, "end") if left else (_RIGHT + 16, "start")
        label, rank = format.plain(name, _NAME), f"{ranks[name]:.2f}"
        methods.append(DiagramMethod(label, rank, x(ranks[name]), y, end, anchor))
    return Diagram(
        width=_WIDTH,
        height=below + _STEP * half + 4,
        axis=(_LEFT, _RIGHT, _TOP),
        ticks=tuple((x(rank), str(rank)) for rank in range(1, worst + 1, -(-worst // 16))),
        methods=tuple(methods),
        bars=tuple(bars),
        scale=(x(1), min(x(1 + critical), float(_WIDTH - 10))),
        critical=f"{critical:.2f}",
        description=_description(order, ranks, groups),
    )


def _description(order: list[str], ranks: Mapping[str, float], groups: list[list[str]]) -> str:
    listed = "; ".join(f"{clean(name)} {ranks[name]:.2f}" for name in order)
    equal = [
        f" No significant difference between {', '.join(map(clean, sorted(group)))}."
        for group in groups
    ]
    return f"Mean ranks: {listed}.{''.join(equal)}"


def _ranks(comparison: CrossTrackComparison, names: list[str], hrefs: Mapping[str, str]) -> Table:
    blocks = len(comparison.blocks)
    rows = []
    for name in names:
        rank = comparison.mean_rank[name]
        cell = Cell(f"{rank:.2f}", f"{blocks} blocks", value=round(rank, 4))
        rows.append(Row(clean(name), hrefs[name], (cell,)))
    return Table(
        id="mean-ranks",
        title="Mean ranks",
        caption="The mean over all blocks of the rank by accuracy. 1 is best; equals share a rank.",
        head="method",
        columns=(Column("rank", "mean rank"),),
        rows=tuple(rows),
    )


def _wins(comparison: CrossTrackComparison, names: list[str], hrefs: Mapping[str, str]) -> Table:
    wins: dict[Any, int] = comparison.wins.stack().to_dict()
    ties: dict[Any, int] = comparison.ties.stack().to_dict()
    shares: dict[Any, float] = comparison.win_fraction.stack().to_dict()

    def cell(pair: tuple[str, str]) -> Cell:
        if pair[0] == pair[1]:
            return Cell("·")
        detail = f"{ties[pair]} equal" if ties[pair] else ""
        return Cell(str(wins[pair]), detail, value=round(100 * shares[pair], 3))

    methods = names[:_READABLE]
    rows = [
        Row(clean(name), hrefs[name], tuple(cell((name, other)) for other in methods))
        for name in methods
    ]
    return Table(
        id="wins",
        title="Win matrix",
        caption=(
            f"The number of blocks, of {len(comparison.blocks)}, in which the method of the row has"
            " a higher mean accuracy than the method of the column. Columns are sorted by the share"
            " of blocks; a tie counts as half."
        ),
        head="method",
        columns=tuple(Column(f"w{index}", clean(name)) for index, name in enumerate(methods)),
        rows=tuple(rows),
        cut=len(names) if len(names) > len(methods) else 0,
    )

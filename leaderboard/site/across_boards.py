"""The comparison across tracks: mean ranks, the test, the diagram, who is above whom."""

import math
from typing import Any, NamedTuple

from paibench.leaderboard.across import Across
from paibench.leaderboard.site.board import Board, Column, Item, Row, clean
from paibench.leaderboard.site.diagram import Diagram, diagram

_MOST = 40  # methods in a diagram or a matrix that can still be read


class Part(NamedTuple):
    """The section of the start page: words, a diagram where there is a test, tables, gaps."""

    words: str
    diagram: Diagram | None
    boards: tuple[Board, ...]
    left_out: tuple[str, ...]


def across_part(found: Across, slugs: dict[str, str]) -> Part:
    """The section from what was computed; `slugs` say where the page of a method label is."""
    names = list(found.mean_rank.index)
    left_out = tuple(map(clean, found.left_out))
    if not names:
        return Part(
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
    return Part(words, drawn, boards, left_out)


def _ranks(found: Across, names: list[str], slugs: dict[str, str]) -> Board:
    blocks = len(found.blocks)
    rows = [
        Row(
            clean(name),
            slugs[name],
            (
                Item(
                    f"{found.mean_rank[name]:.2f}",
                    f"{blocks} blocks",
                    round(found.mean_rank[name], 4),
                ),
            ),
        )
        for name in names
    ]
    columns = (Column("rank", "mean rank"),)
    return Board("mean-ranks", "Mean ranks", "1 is best; equals share a rank.", "method", columns,
                 tuple(rows))  # fmt: skip


def _wins(found: Across, names: list[str], slugs: dict[str, str], total: int) -> Board:
    blocks = len(found.blocks)
    wins: dict[Any, int] = found.wins.stack().to_dict()
    ties: dict[Any, int] = found.ties.stack().to_dict()
    shares: dict[Any, float] = found.win_fraction.stack().to_dict()
    rows = []
    for name in names:
        items = [
            Item("·") if name == other else _win(wins, ties, shares, (name, other))
            for other in names
        ]
        rows.append(Row(clean(name), slugs[name], tuple(items)))
    columns = tuple(Column(f"w{place}", clean(name)) for place, name in enumerate(names))
    caption = (
        f"In how many of {blocks} blocks the mean of the row's method is above the column's; "
        "sorted by share of blocks, a tie as half."
    )
    cut = total if total > len(names) else 0
    return Board("wins", "Win matrix", caption, "method", columns, tuple(rows), cut)


def _win(
    wins: dict[Any, int], ties: dict[Any, int], shares: dict[Any, float], pair: tuple[str, str]
) -> Item:
    small = f"{ties[pair]} equal" if ties[pair] else ""
    return Item(str(wins[pair]), small, round(100 * shares[pair], 3))

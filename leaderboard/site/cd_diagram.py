"""The critical-difference diagram as places of lines and words, which a template draws."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from paibench.leaderboard import format
from paibench.leaderboard.format import clean

_WIDTH, _LEFT, _RIGHT = 960, 300, 660
_NAME = 40  # characters of a name that fit beside the axis
_TOP, _STEP, _BAR = 56, 20, 9


class Method(NamedTuple):
    """One method: its place on the axis, and the line that leads to its name."""

    name: str
    rank: str
    x: float
    y: float
    end: int
    anchor: str


class Diagram(NamedTuple):
    """Where everything is drawn; bars join methods that are not told apart."""

    width: int
    height: float
    axis: tuple[int, int, int]
    """Where it begins and ends, and how far down it is."""
    ticks: tuple[tuple[float, str], ...]
    methods: tuple[Method, ...]
    bars: tuple[tuple[float, float, float], ...]
    scale: tuple[float, float]
    critical: str
    words: str
    """The same for who does not see it."""


def diagram(
    ranks: Mapping[str, float], critical: float, cliques: Iterable[Iterable[str]]
) -> Diagram:
    """The diagram of Demšar (2006): mean ranks on a line, the best at the left."""
    order = sorted(ranks, key=lambda name: (ranks[name], name))
    most = max(2, len(order))

    def x(rank: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (rank - 1) / (most - 1), 2)

    groups = [list(group) for group in cliques]
    spans = sorted((min(ranks[n] for n in g), max(ranks[n] for n in g)) for g in groups if g)
    bars = [
        (x(low) - 3, x(high) + 3, _TOP + 12 + _BAR * place)
        for place, (low, high) in enumerate(spans)
    ]
    below = _TOP + 24 + _BAR * len(bars)
    half = (len(order) + 1) // 2
    methods = []
    for place, name in enumerate(order):
        left = place < half
        y = below + _STEP * (place if left else len(order) - 1 - place)
        end, anchor = (_LEFT - 16, "end") if left else (_RIGHT + 16, "start")
        methods.append(
            Method(format.plain(name, _NAME), f"{ranks[name]:.2f}", x(ranks[name]), y, end, anchor)
        )
    return Diagram(
        width=_WIDTH,
        height=below + _STEP * half + 4,
        axis=(_LEFT, _RIGHT, _TOP),
        ticks=tuple((x(rank), str(rank)) for rank in range(1, most + 1, -(-most // 16))),
        methods=tuple(methods),
        bars=tuple(bars),
        scale=(x(1), min(x(1 + critical), float(_WIDTH - 10))),
        critical=f"{critical:.2f}",
        words=_words(order, ranks, groups),
    )


def _words(order: list[str], ranks: Mapping[str, float], groups: list[list[str]]) -> str:
    said = "; ".join(f"{clean(name)} {ranks[name]:.2f}" for name in order)
    joined = ["not told apart: " + ", ".join(map(clean, sorted(group))) for group in groups]
    return f"Mean ranks: {said}. " + "; ".join(joined)

"""The columns behind the sparsities: what sums a row up, and what it costs at one density."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from paibench.leaderboard.site.board import GAP, Cell, Column, Item, cost, number
from paibench.leaderboard.submission.marks import KINDS
from paibench.leaderboard.table import sparsity_percent

COLUMNS = (
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


def items(
    summed: dict[Any, Any], by_density: dict[float, Cell], where: Cell | None
) -> Iterable[Item]:
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


def _mark(cells: Iterable[Cell]) -> Item:
    """The mark of a row: that of the least of its cells that have an accuracy."""
    counts = Counter(str(cell["mark"]) for cell in cells if cell["accuracy_n"])
    found = [kind for kind in KINDS if counts[kind]]
    if len(found) < 2:
        return Item(*found or KINDS[:1])
    said = ", ".join(f"{kind} at {counts[kind]}" for kind in reversed(found))
    return Item(found[0], f"{said} sparsities")


def _multiply_adds(cell: Cell | None) -> Item:
    dense = number(cell["multiply_adds_dense_mean"]) if cell is not None else None
    sparse = number(cell["multiply_adds_sparse_mean"]) if cell is not None else None
    if cell is None or not dense or sparse is None:
        return Item(GAP)
    n = int(cell["multiply_adds_sparse_n"])
    share = 100 * sparse / dense
    return Item(f"{share:.3g}", f"n = {n}", round(share, 6), None, n)

"""Pareto-optimal cells: none is better in all three, and none is near chance."""

from collections.abc import Callable

import pandas as pd
import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.board import compute
from paibench.leaderboard.frame.load import Frame, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.pareto import near_chance

RecordFactory = Callable[..., Record]


def cells_of(
    factory: RecordFactory, accuracies: dict[str, float], untrained: float
) -> pd.DataFrame:
    """Return the cells of methods at one density, with three seeds."""
    records = [
        factory(
            method=method,
            density=0.1,
            seed=seed,
            accuracy=accuracy + 0.001 * seed,
            accuracy_untrained=untrained,
            search_epochs=float(cost),
        )
        for cost, (method, accuracy) in enumerate(accuracies.items())
        for seed in range(3)
    ]
    return compute(Frame(tabulate(map(row_of, records)))).cells


def best(cells: pd.DataFrame) -> dict[str, bool]:
    return dict(zip(cells["method_label"], cells["best"], strict=True))


def test_each_costlier_method_must_be_better(record_factory: RecordFactory) -> None:
    """The cheapest is optimal, and a costlier one only if it is more accurate."""
    cells = cells_of(record_factory, {"random": 0.8, "snip": 0.7, "imp": 0.9}, 0.1)
    assert best(cells) == {"random": True, "snip": False, "imp": True}


@pytest.mark.parametrize(("accuracy", "optimal"), [(0.1135, False), (0.148, False), (0.2, True)])
def test_nothing_near_chance_is_optimal(
    record_factory: RecordFactory, accuracy: float, optimal: bool
) -> None:
    """A network that always answers with one class is cheap, and no trade-off."""
    cells = cells_of(record_factory, {"random": accuracy, "imp": 0.9}, 0.1)
    assert best(cells) == {"random": optimal, "imp": True}


def test_without_a_floor_nothing_is_known_of_chance(record_factory: RecordFactory) -> None:
    """No cell of such a track counts as near chance."""
    cells = cells_of(record_factory, {"snip": 0.1, "imp": 0.9}, 0.1)
    assert not near_chance(cells).any() and best(cells) == {"snip": True, "imp": True}

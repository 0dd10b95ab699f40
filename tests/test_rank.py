"""Methods stand in an order that survivors and head starts cannot lead."""

from typing import Any

import pandas as pd
import pytest

from paibench.leaderboard.rank import middle, ranked


def cells_of(*cells: dict[str, Any]) -> pd.DataFrame:
    """Cells of the summary that are complete and at initialization unless they say otherwise."""
    usual = {"density_asked": 0.1, "accuracy_n": 3, "runs": 3, "not_at_initialization": 0}
    return pd.DataFrame([usual | cell for cell in cells])


def test_order() -> None:
    """Dense, random, whole rows by mean, rows that lost runs, rows not at initialization."""
    found = cells_of(
        {"row": "later", "accuracy_mean": 0.99, "not_at_initialization": 3},
        {"row": "survivor", "accuracy_mean": 0.98, "accuracy_n": 2},
        {"row": "lost", "accuracy_mean": float("nan"), "accuracy_n": 0},
        {"row": "good", "accuracy_mean": 0.6},
        {"row": "better", "accuracy_mean": 0.7},
        {"row": "random", "accuracy_mean": 0.1, "accuracy_n": 1},
        {"row": "dense", "accuracy_mean": 0.2, "density_asked": 1.0},
        {"row": "absent", "accuracy_mean": 0.97, "density_asked": 0.01},
        {"row": "good", "accuracy_mean": 0.99, "density_asked": 0.01},
        {"row": "better", "accuracy_mean": 0.99, "density_asked": 0.5, "accuracy_n": 1},
    )
    order = ["dense", "random", "better", "good", "survivor", "absent", "lost", "later"]
    assert ranked(found) == order


@pytest.mark.parametrize(
    ("densities", "expected"),
    [([1.0], 1.0), ([1.0, 0.1], 0.1), ([0.5, 0.2, 0.1], 0.2), ([0.5, 0.2, 0.1, 0.05], 0.2)],
    ids=str,
)
def test_the_middle_density_is_one_of_the_pruned(densities: list[float], expected: float) -> None:
    """The denser of two in the middle; 1 where nothing is pruned."""
    assert middle(cells_of(*({"density_asked": density} for density in densities))) == expected

"""Methods stand in an order that survivors and head starts cannot lead."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.stats.ranking import (
    endpoint_by_row,
    median_density,
    rankable,
    ranked,
    supermasks,
)
from paibench.leaderboard.stats.summary import TRACK


def cells_of(*cells: dict[str, Any]) -> pd.DataFrame:
    """Cells of the summary that are complete and at initialization unless they say otherwise."""
    usual = {"density_asked": 0.1, "accuracy_n": 3, "runs": 3, "not_at_initialization": 0}
    usual |= {"accuracy_log_odds": float("nan")}
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
    assert (
        median_density(cells_of(*({"density_asked": density} for density in densities))) == expected
    )


def test_the_endpoint_decides_first() -> None:
    """The mean log-odds over the densities of random; rows without all runs there follow."""
    means = {"random": (0.0, -1.0), "even": (1.0, 1.0), "steep": (2.0, -1.0), "lost": (3.0, 3.0)}
    cells = cells_of(
        *(
            {"row": row, "density_asked": density, "accuracy_log_odds": value}
            | {"accuracy_mean": 0.5, "accuracy_n": 3 - (row == "lost")}
            for row, values in means.items()
            for density, value in zip((0.1, 0.01), values, strict=True)
        ),
        {"row": "dense only", "density_asked": 0.1, "accuracy_log_odds": 9.0, "accuracy_mean": 0.9},
        {"row": "even", "density_asked": 0.5, "accuracy_log_odds": -9.0, "accuracy_mean": 0.1},
    )
    assert endpoint_by_row(cells) == {"random": -0.5, "even": 1.0, "steep": 0.5}
    assert ranked(cells) == ["random", "even", "steep", "dense only", "lost"]


def test_what_has_a_rank() -> None:
    """No dense, no control, and no row with one ticket from other weights."""
    rows: list[tuple[str, dict[str, Any], bool]] = [
        ("dense", {"density_asked": 1.0}, False),
        ("random", {}, True),
        ("random(layers=erk)", {}, True),
        ("snip", {}, True),
        ("snip", {"control": "shuffle"}, False),
        ("imp", {"density_asked": 0.5}, False),
        ("imp", {"not_at_initialization": 1}, False),
        ("imp", {"model": "other"}, True),
    ]
    usual = {name: "x" for name in TRACK} | {"control": "none"}
    cells = cells_of(
        *(
            usual | {"method": label.partition("(")[0], "method_label": label} | fields
            for label, fields, _ in rows
        )
    )
    assert list(rankable(cells)) == [ranked for *_, ranked in rows]
    assert len(rankable(cells.iloc[:0])) == 0


def test_supermasks_scored_without_training() -> None:
    """Mean, interval and number of native accuracies, at the density that the search chose."""
    usual: dict[str, Any] = {name: "x" for name in TRACK}
    usual |= {"evaluated_on": "test", "data_fingerprint": "f" * 64}
    usual |= {"protocol": 1, "density_asked": 0.1, "control": "none", "status": "done"}
    usual["test_examples"] = 1000
    rows = [
        usual
        | {"method_label": label, "method": label, "seed": seed, "native_accuracy": native}
        | {"native_density": 0.5 + 0.1 * seed}
        for label, natives in [("zhou", (0.9, 0.92, 0.94)), ("snip", (None, None, None))]
        for seed, native in enumerate(natives)
    ]
    [found] = supermasks(tabulate(rows)).to_dict("records")
    assert (found["method_label"], found["n"]) == ("zhou", 3)
    assert found["mean"] == pytest.approx(0.92, abs=1e-12)
    odds = np.log([900.5 / 100.5, 920.5 / 80.5, 940.5 / 60.5])
    ends = stats.t.interval(0.95, 2, loc=odds.mean(), scale=stats.sem(odds))
    assert [found["low"], found["high"]] == pytest.approx(list(1 / (1 + np.exp(-np.array(ends)))))
    assert found["native_density"] == pytest.approx(0.6, abs=1e-12)

"""Rank sets of a table: which methods are in it, and what others do to them."""

import numpy as np
import pandas as pd
import pytest
from accuracies import ERK, GRID, MANY, board, runs_of
from scipy import stats

from paibench.leaderboard.stats.log_odds import log_odds
from paibench.leaderboard.stats.rank_set import pool, rank_set

USUAL = {"random": 0.6, ERK: 0.7, "snip": 0.8, "synflow": 0.81, "imp": 0.95}


def sets(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    ranks = zip(table["best_rank"], table["worst_rank"], strict=True)
    return dict(zip(table["method_label"], ranks, strict=True))


def test_they_are_those_of_games_and_howell() -> None:
    """Counted pair by pair with scipy's test, at one density and for the endpoint."""
    found = board(USUAL)
    first, cells = rank_set(runs_of(found, test_examples=MANY))
    at = {m: log_odds(found[m, 0.1], MANY) for m in USUAL}
    over_grid = {m: np.mean([log_odds(found[m, d], MANY) for d in GRID], axis=0) for m in USUAL}
    for table, values in ((cells[cells["density_asked"] == 0.1], at), (first, over_grid)):
        p = stats.tukey_hsd(*values.values(), equal_var=False).pvalue
        means = np.array([value.mean() for value in values.values()])
        for i, (method, ranks) in enumerate({m: sets(table)[m] for m in values}.items()):
            better = (p[i] <= 0.05) & (means > means[i])
            worse = (p[i] <= 0.05) & (means < means[i])
            assert ranks == (1 + better.sum(), len(values) - worse.sum()), method
        assert set(table["ranked_of"]) == {5}


def test_one_configuration_of_each_method() -> None:
    """The default, or the first by name if there is none; both floors; no control, no dense."""
    labels = ["snip", "snip(per_class=5)", "imp(rate=0.1)", "imp(rate=0.5)", "random", ERK, "dense"]
    found = runs_of(board(dict.fromkeys(labels, 0.8)))
    controls = runs_of(board({"synflow": 0.8}), control="shuffle")
    ranked = pool(pd.concat([found, controls], ignore_index=True))
    assert set(ranked["method_label"]) == {"snip", "imp(rate=0.1)", "random", ERK}


def test_trained_weights_are_not_ranked() -> None:
    """One ticket that starts elsewhere takes the whole row out."""
    found = runs_of(board(USUAL))
    found["at_initialization"] = True
    late = (found["method_label"] == "imp") & (found["seed"] == 0) & (found["density_asked"] == 0.5)
    found.loc[late, "at_initialization"] = False
    assert set(pool(found)["method_label"]) == set(USUAL) - {"imp"}


@pytest.mark.parametrize(("n", "provisional"), [(2, True), (4, True), (5, False)])
def test_few_seeds_are_provisional(n: int, provisional: bool) -> None:
    """With one run of a method it is left out."""
    found = board(USUAL)
    found["snip", 0.1] = found["snip", 0.1][:n]
    found["synflow", 0.1] = found["synflow", 0.1][:1]
    first, cells = rank_set(runs_of(found))
    at = cells[cells["density_asked"] == 0.1].set_index("method_label")
    assert at.loc["snip", "provisional"] == provisional
    assert "synflow" not in at.index
    assert set(first["method_label"]) == set(USUAL) - {"synflow"}


def test_junk_widens_them_and_turns_none() -> None:
    """Eight bad methods below all others: who was better stays so or becomes unclear."""
    before = board(USUAL)
    junk = board({f"junk{i}": 0.3 for i in range(8)}, seed=5)
    old, new = (sets(rank_set(runs_of(each))[0]) for each in (before, before | junk))
    for method, (best, worst) in old.items():
        assert new[method][0] <= best and new[method][1] >= worst
        assert new[method][1] <= len(USUAL)

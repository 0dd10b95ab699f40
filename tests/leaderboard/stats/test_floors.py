"""Verdicts against the random floors: Welch's tests, the endpoint first, nothing from elsewhere."""

import numpy as np
import pandas as pd
import pytest
from accuracies import ERK, GRID, MANY, board, normal, runs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paibench.leaderboard.stats.floors import (
    FLOORS,
    endpoint_means,
    endpoints,
    grid,
    measured,
    verdicts,
)
from paibench.leaderboard.stats.log_odds import accuracy_of, log_odds, samples
from paibench.leaderboard.stats.summary import CELL

USUAL = {"random": 0.7, ERK: 0.75, "snip": 0.9, "grasp": 0.5, "synflow": 0.75}


def outcome_of(table: pd.DataFrame) -> dict[tuple[str, float], str]:
    """The outcomes by method label and density, of the endpoint by label alone."""
    densities = table.get("density_asked", pd.Series(1.0, table.index))
    return dict(
        zip(zip(table["method_label"], densities, strict=True), table["outcome"], strict=True)
    )


def test_the_numbers_are_scipys() -> None:
    """At one density, and for the endpoint: Welch's test of the log-odds; p is the larger one."""
    found = board(USUAL)
    first, cells = verdicts(runs_of(found, test_examples=MANY))
    odds = {key: log_odds(values, MANY) for key, values in found.items()}
    snip = cells[(cells["method_label"] == "snip") & (cells["density_asked"] == 0.1)].iloc[0]
    theirs = [
        stats.ttest_ind(odds["snip", 0.1], odds[floor, 0.1], equal_var=False).pvalue
        for floor in FLOORS
    ]
    assert [snip["random_p"], snip["erk_p"]] == pytest.approx(theirs)
    means = {label: np.mean([odds[label, d] for d in GRID], axis=0) for label in USUAL}
    row = first.set_index("method_label").loc["snip"]
    expected = [stats.ttest_ind(means["snip"], means[f], equal_var=False).pvalue for f in FLOORS]
    assert row["p"] == pytest.approx(max(expected))
    assert row["mean"] == pytest.approx(means["snip"].mean())
    shown = endpoint_means(runs_of(found, test_examples=MANY)).set_index("method_label")
    ends = stats.t.interval(0.95, 5, loc=means["snip"].mean(), scale=stats.sem(means["snip"]))
    accuracies = accuracy_of([means["snip"].mean(), *ends])
    assert list(shown.loc["snip", ["accuracy", "low", "high"]]) == pytest.approx(list(accuracies))


def test_outcomes() -> None:
    """Above both, below both, above the weaker one alone; the stronger floor against the weaker."""
    first, cells = verdicts(runs_of(board(USUAL, n=10)))
    assert outcome_of(first) == {
        ("snip", 1.0): "better",
        ("grasp", 1.0): "worse",
        ("synflow", 1.0): "not significant",
        (ERK, 1.0): "floor",
    }
    assert {value for key, value in outcome_of(cells).items() if key[0] == "synflow"} == {
        "not tested"
    }
    between = USUAL | {ERK: 0.9, "synflow": 0.8}
    assert outcome_of(verdicts(runs_of(board(between, n=10)))[0])["synflow", 1.0] == "between"


def test_densities_are_corrected_within_a_method() -> None:
    """Holm's p of the densities of one method, whatever the other methods are."""
    _, cells = verdicts(runs_of(board(USUAL)))
    snip = cells[cells["method_label"] == "snip"]
    raw = sorted(np.maximum(snip["random_p"], snip["erk_p"]))
    corrected = np.maximum.accumulate([min(1, p * (3 - i)) for i, p in enumerate(raw)])
    assert sorted(snip["p"]) == pytest.approx(list(corrected))


@given(st.integers(1, 8), st.floats(0.05, 0.99), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_other_methods_change_no_verdict(junk: int, mean: float, seed: int) -> None:
    """Up to eight submissions of any accuracy leave every number of the others as it is."""
    before = board(USUAL)
    extra = board({f"junk{i}": mean for i in range(junk)}, seed=seed + 1)
    for old, new in zip(verdicts(runs_of(before)), verdicts(runs_of(before | extra)), strict=True):
        kept = new[new["method_label"].isin(USUAL)].reset_index(drop=True)
        pd.testing.assert_frame_equal(old, kept)


def test_few_seeds_get_no_verdict() -> None:
    """Four of the method, or four of a floor."""
    for label in ("snip", "random", ERK):
        found = board(USUAL)
        found[label, 0.1] = found[label, 0.1][:4]
        first, cells = verdicts(runs_of(found))
        assert outcome_of(first)["snip", 1.0] == "too few seeds"
        assert outcome_of(cells)["snip", 0.1] == "too few seeds"


def test_a_missing_density_is_no_endpoint() -> None:
    """Without one density of the grid nothing is tested; a density off the grid is not in it."""
    found = board(USUAL)
    del found["snip", 0.02]
    found["synflow", 0.3] = normal(0.9, 6, 5)
    first, cells = verdicts(runs_of(found))
    assert "snip" not in set(first["method_label"])
    assert outcome_of(cells)["snip", 0.5] == "no endpoint"
    whole = endpoints(measured(runs_of(found)), grid(runs_of(found)))
    synflow = whole[whole["method_label"] == "synflow"]
    expected = np.mean([log_odds(found["synflow", d], 1000) for d in GRID], axis=0)
    assert list(synflow["log_odds"]) == pytest.approx(list(expected))


def test_equal_seeds_still_have_an_interval() -> None:
    """The variance is at least that of 1,000 test images: 1 / 900.5 + 1 / 100.5."""
    runs = runs_of({("snip", 0.1): [0.9] * 5})
    (row,) = samples(measured(runs), CELL[:0] + ["method_label"]).itertuples()
    assert row.variance == pytest.approx(1 / 900.5 + 1 / 100.5)


def test_controls_and_dense_are_not_compared() -> None:
    """They have no verdict, and a control of a floor is no floor."""
    found = runs_of(board(USUAL | {"dense": 0.9}))
    found.loc[found["method_label"] == "dense", "density_asked"] = 1.0
    shuffled = runs_of(board({"random": 0.2}), control="shuffle")
    first, cells = verdicts(pd.concat([found, shuffled], ignore_index=True))
    assert (
        set(cells["method_label"])
        == set(first["method_label"])
        == {ERK, "snip", "grasp", "synflow"}
    )
    old = verdicts(runs_of(board(USUAL)))[1]
    assert list(old["p"]) == pytest.approx(list(cells["p"]))


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10])
def test_equal_methods_rarely_beat_random(n: int) -> None:
    """Of 400 methods that are as good as both floors, at most 5 % get any "better", with noise."""
    false = 0
    for seed in range(40):
        means = dict.fromkeys(["random", ERK, *(f"m{i}" for i in range(10))], 0.7)
        first, cells = verdicts(runs_of(board(means, n=n, seed=seed)))
        tables = pd.concat([first, cells])
        better = tables[tables["outcome"] == "better"]
        false += better.loc[better["method_label"] != ERK, "method_label"].nunique()
    assert false / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)

"""Differences from random: equal to scipy's paired tests, to Holm's by definition, and by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scikit_posthocs import posthoc_ttest
from scipy import stats

from paibench.benchmark.record import Record
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.paired import VERDICTS, against_random, holm, p_of_t
from paibench.leaderboard.stats.summary import CELL, TRACK, summarize

RecordFactory = Callable[..., Record]


def runs_of(values: dict[str, list[float | None]], **fields: Any) -> pd.DataFrame:
    """Runs by method, of seeds 0, 1, ...; those without an accuracy are missing."""
    usual = {"dataset": "d", "model": "m", "recipe": "r", "init": "i", "control": "none"}
    usual |= {"evaluated_on": "test", "data_fingerprint": "f" * 64}
    return tabulate(
        usual
        | {"density_asked": 0.1, "method": method.partition("(")[0], "method_label": method}
        | {"seed": seed, "accuracy": value, "status": "missing" if value is None else "done"}
        | fields
        for method, accuracies in values.items()
        for seed, value in enumerate(accuracies)
    )


def by_definition(p: list[float]) -> list[float]:
    """Holm's corrected p: the largest of (m - j + 1) p_(j) over j up to one's own, at most 1."""
    rising = sorted(p)
    return [min(1, max((len(p) - j) * q for j, q in enumerate(rising) if q <= own)) for own in p]


def test_three_seeds_by_hand() -> None:
    """Differences 0.01, 0.02, 0.03: mean 0.02, deviation 0.01, t = 2 sqrt(3) with two degrees.

    With two degrees of freedom p = 1 - t / sqrt(2 + t^2), and the quantile has a closed form.
    """
    runs = runs_of({"snip": [0.91, 0.92, 0.93], "random": [0.9, 0.9, 0.9]})
    found = against_random(runs).iloc[0]
    t = 2 * math.sqrt(3)
    quantile = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
    assert (found["method"], found["n"], found["lost"]) == ("snip", 3, 0)
    assert found["difference"] == pytest.approx(0.02, abs=1e-15)
    assert found["half"] == pytest.approx(quantile * 0.01 / math.sqrt(3), abs=1e-12)
    assert found["p"] == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)
    assert found["p_holm"] == found["p"]
    assert found["verdict"] == "no significant difference from random"


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_p_and_interval_are_scipys(n: int) -> None:
    """As of scipy.stats.ttest_rel on the two samples."""
    ours = [0.9 + 0.001 * (7 * k * k % 11) for k in range(n)]
    floor = [0.89 + 0.002 * (5 * k % 7) for k in range(n)]
    found = against_random(runs_of({"snip": [*ours], "random": [*floor]})).iloc[0]
    theirs = stats.ttest_rel(ours, floor)
    low, high = theirs.confidence_interval(0.95)
    assert found["p"] == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found["difference"] - found["half"] == pytest.approx(low, abs=1e-12)
    assert found["difference"] + found["half"] == pytest.approx(high, abs=1e-12)


def test_differences_are_those_of_the_summary(record_factory: RecordFactory) -> None:
    """Number, mean and half width are what the summary of the same runs has."""
    runs = tabulate(
        row_of(record_factory(method=method, density=density, seed=seed, accuracy=accuracy))
        for method, low in [("snip", 0.8), ("magnitude", 0.7), ("random", 0.6)]
        for density in (0.1, 0.2)
        for seed in range(4)
        for accuracy in [low + 0.01 * (seed * seed % 3) + 0.1 * density]
    )
    found = against_random(runs).merge(summarize(runs), on=CELL)
    assert len(found) == 4
    assert list(found["n"]) == list(found["random_n"])
    assert found["difference"].to_numpy() == pytest.approx(found["random_difference"].to_numpy())
    assert found["half"].to_numpy() == pytest.approx(found["random_half"].to_numpy())


def test_what_has_no_partner_is_counted_as_lost() -> None:
    """Of five seeds asked for, one of the method's and one of random's gave nothing."""
    runs = runs_of({"snip": [0.9, None, 0.8, 0.7, 0.9], "random": [0.5, 0.6, None, 0.4, 0.5]})
    found = against_random(runs).iloc[0]
    assert (found["n"], found["lost"]) == (3, 2)
    assert found["difference"] == pytest.approx((0.4 + 0.3 + 0.4) / 3, abs=1e-15)


def test_only_runs_that_ended_are_compared(record_factory: RecordFactory) -> None:
    """A diverged run counts with the accuracy that it has; that of a failed one is not believed."""
    late = {"status": "diverged", "reason": "late"}
    runs = tabulate(
        row_of(record_factory(method=method, seed=seed, accuracy=accuracy, **fields))
        for method, seed, accuracy, fields in [
            ("random", 0, 0.5, {}),
            ("random", 1, 0.5, {}),
            ("random", 2, 0.5, {}),
            ("snip", 0, 0.9, {}),
            ("snip", 1, 0.3, late),
            ("snip", 2, 0.9, {"status": "failed", "reason": "raised"}),
        ]
    )
    found = against_random(runs).iloc[0]
    assert (found["n"], found["lost"]) == (2, 1)
    assert found["difference"] == pytest.approx(0.1, abs=1e-15)


def test_pairs_are_of_one_track_and_density() -> None:
    """Random runs of another density, recipe or split are nobody's partners."""
    floor: dict[str, list[float | None]] = {"random": [0.5, 0.5]}
    parts = [
        runs_of({"snip": [0.9, 0.9]}),
        runs_of(floor, density_asked=0.2),
        runs_of(floor, recipe="other"),
        runs_of(floor, evaluated_on="validation"),
    ]
    assert len(against_random(pd.concat(parts, ignore_index=True))) == 0


def test_controls_dense_and_what_is_not_pruned_are_not_tested() -> None:
    """Only snip at 0.1 and random with options are cells to compare with the floor."""
    accuracies: list[float | None] = [0.9, 0.8, 0.7]
    runs = pd.concat(
        [
            runs_of(dict.fromkeys(("snip", "random", "random(layers=erk)"), accuracies)),
            runs_of(dict.fromkeys(("snip", "random"), accuracies), control="shuffle"),
            runs_of(dict.fromkeys(("dense", "snip", "random"), accuracies), density_asked=1.0),
        ],
        ignore_index=True,
    )
    found = against_random(runs)
    assert list(found["method_label"]) == ["random(layers=erk)", "snip"]
    assert set(found["density_asked"]) == {0.1}


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.25], math.nan),
        ([0.25, 0.25], 0.5),
        ([0.25, 0.25, 0.25], 0.25),
        ([-0.25] * 6, 2 / 64),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.0], math.nan),
    ],
    ids=["one", "two", "three", "six", "no difference", "one of none"],
)
def test_equal_differences_have_the_p_of_a_sign_test(differences: list[float], p: float) -> None:
    """There is no t without a spread; n signs that agree have 2 / 2^n, as scipy's binomial test."""
    floor: list[float | None] = [0.5 for _ in differences]
    found = against_random(runs_of({"snip": [0.5 + d for d in differences], "random": floor}))
    assert found["p"].iloc[0] == pytest.approx(p, nan_ok=True)
    if any(differences) and len(differences) > 1:
        assert p == stats.binomtest(0, len(differences)).pvalue


def test_differences_that_only_rounding_tells_apart_are_equal() -> None:
    """0.3 - 0.2 and 0.4 - 0.3 differ by less than any step of an accuracy."""
    runs = runs_of({"snip": [0.3, 0.4, 0.7], "random": [0.2, 0.3, 0.6]})
    assert len({0.3 - 0.2, 0.4 - 0.3, 0.7 - 0.6}) > 1
    assert against_random(runs)["p"].iloc[0] == 0.25


LOW: list[float | None] = [0.5, 0.505, 0.5, 0.502]
HIGH: list[float | None] = [0.7, 0.71, 0.695, 0.702]


@pytest.mark.parametrize(
    ("ours", "plain", "quotas", "verdict"),
    [
        ([0.90, 0.91, 0.905, 0.9], LOW, HIGH, "better"),
        ([0.90, 0.91, 0.905, 0.9], HIGH, LOW, "better"),
        ([0.60, 0.61, 0.605, 0.6], LOW, HIGH, "worse"),
        ([0.10, 0.11, 0.105, 0.1], LOW, HIGH, "worse"),
        ([0.70, 0.72, 0.68, 0.7], LOW, HIGH, "plain only"),
        ([0.70, 0.72, 0.68, 0.7], HIGH, LOW, "quotas only"),
        ([0.50, 0.52, 0.48, 0.5], LOW, LOW, "not significant"),
        ([0.90, 0.91, 0.905, 0.9], LOW, [], "no second floor"),
        ([0.10, 0.11, 0.105, 0.1], LOW, [], "worse"),
        ([0.50, 0.52, 0.48, 0.5], LOW, [], "not significant"),
        ([0.90, 0.91], LOW, HIGH, "too few seeds"),
        ([0.90, 0.91, None, None], LOW, HIGH, "too few seeds"),
        ([0.90], LOW, HIGH, "too few seeds"),
        ([0.90, 0.91, 0.905, 0.9], LOW, HIGH[:2], "too few seeds"),
        ([0.90, 0.91, 0.905, 0.9], LOW[:2], HIGH, "too few seeds"),
        ([0.60, 0.61, 0.605, 0.6], LOW[:2], HIGH, "worse"),
    ],
)
def test_verdicts(
    ours: list[float | None],
    plain: list[float | None],
    quotas: list[float | None],
    verdict: str,
) -> None:
    """A method beats random only if it beats both floors, and is worse if it is worse than one."""
    runs = runs_of({"snip": ours, "random": plain, "random(layers=erk)": quotas})
    found = against_random(runs).set_index("method_label")
    assert found.loc["snip", "verdict"] == VERDICTS[verdict]
    assert len(set(VERDICTS.values())) == len(VERDICTS)


@pytest.mark.parametrize(
    ("quotas", "verdict"), [(HIGH, "floor"), (LOW, "not significant"), (LOW[:2], "too few seeds")]
)
def test_the_second_floor(quotas: list[float | None], verdict: str) -> None:
    """It is compared with the first one, and not with itself; other quotas are with both."""
    random = {"random": LOW, "random(layers=erk)": quotas, "random(layers=igq)": HIGH}
    found = against_random(runs_of(random)).set_index("method_label")
    assert "random" not in found.index
    assert found.loc["random(layers=erk)", "verdict"] == VERDICTS[verdict]
    assert found.loc["random(layers=erk)", "erk_n"] == 0
    assert found.loc["random(layers=igq)", "erk_n"] == len(quotas)


def test_each_floor_has_its_own_family() -> None:
    """Holm's correction is over the cells that are compared with one floor."""
    accuracies: dict[str, list[float | None]] = {
        "snip": [0.9, 0.91, 0.92],
        "grasp": [0.5, 0.51, 0.53],
    }
    runs = runs_of(
        accuracies | {"random": [0.4, 0.44, 0.41], "random(layers=erk)": [0.45, 0.46, 0.44]}
    )
    found = against_random(runs)
    for prefix, compared in (("", 3), ("erk_", 2)):
        p = found[f"{prefix}p"].dropna()
        assert len(p) == compared
        assert list(found[f"{prefix}p_holm"].dropna()) == pytest.approx(by_definition(list(p)))


def test_each_density_of_a_track_is_a_family_of_its_own() -> None:
    """Two methods in one track and one in another: p is doubled at most where there are two."""
    ours: list[float | None] = [0.9, 0.91, 0.92]
    floor: list[float | None] = [0.5, 0.5, 0.5]
    other: list[float | None] = [0.5, 0.6, 0.5]
    runs = pd.concat(
        [
            runs_of({"snip": ours, "grasp": other, "random": floor}),
            runs_of({"snip": ours, "random": floor}, model="other"),
        ],
        ignore_index=True,
    )
    found = against_random(runs).set_index(["model", "method"])
    ratio = found["p_holm"] / found["p"]
    assert ratio.loc[("m", "snip")] == pytest.approx(2)
    assert ratio.loc[("m", "grasp")] == pytest.approx(1)
    assert ratio.loc[("other", "snip")] == pytest.approx(1)
    narrow = against_random(runs, family=[*TRACK, "method"])
    assert list(narrow["p_holm"]) == list(narrow["p"])
    sparser = pd.concat([runs, runs.assign(density_asked=0.01)], ignore_index=True)
    both = against_random(sparser)
    assert sorted(both["p_holm"] / both["p"]) == pytest.approx(sorted(2 * list(ratio)))


def test_holm_by_hand() -> None:
    """Of 0.01, 0.04, 0.03, 0.005: 3 x 0.01, 1 x 0.04 raised to 2 x 0.03, 2 x 0.03, 4 x 0.005."""
    p = pd.Series([0.01, 0.04, math.nan, 0.03, 0.005])
    found = holm(p, pd.Series(0, index=p.index))
    assert found.to_numpy() == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)


def test_holm_is_that_of_scikit_posthocs() -> None:
    """Pairwise tests of four samples, corrected there and here."""
    draw = np.random.default_rng(1)
    samples = [draw.normal(shift, 1, 8) for shift in (0, 0.4, 1.5, 3)]
    raw = posthoc_ttest(samples).to_numpy()
    theirs = posthoc_ttest(samples, p_adjust="holm").to_numpy()
    above = np.triu_indices(4, 1)
    ours = holm(pd.Series(raw[above]), pd.Series(0, index=range(6)))
    assert ours.to_numpy() == pytest.approx(theirs[above], rel=1e-12)
    assert not np.allclose(raw[above], theirs[above])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_by_definition(p: list[float]) -> None:
    """At least the raw p, at most 1, in the same order, and equal to the formula."""
    found = holm(pd.Series(p), pd.Series("family", index=range(len(p)))).to_numpy()
    assert found == pytest.approx(by_definition(p), abs=1e-12)
    assert (found >= np.array(p)).all() and (found <= 1).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.integers(-500, 500), min_size=2, max_size=8))
def test_p_is_a_probability_whatever_the_differences(steps: list[int]) -> None:
    """Never not a number for two or more, and the sign of the differences does not matter."""
    values = pd.Series([step / 1000 for step in steps])
    one = [pd.Series([x]) for x in (values.mean(), values.std(), len(values))]
    p, mirrored = p_of_t(*one).iloc[0], p_of_t(-one[0], one[1], one[2]).iloc[0]
    assert 0 <= p <= 1
    assert p == mirrored


def test_no_runs_make_no_rows() -> None:
    """With the columns that there would be."""
    found = against_random(tabulate([]))
    assert len(found) == 0
    assert {"n", "lost", "difference", "half", "p", "p_holm", "verdict"} <= set(found.columns)

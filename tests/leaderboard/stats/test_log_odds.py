"""Log-odds: equal to scipy's Welch and Games-Howell tests, and finite where an accuracy is not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from paibench.leaderboard.stats.log_odds import (
    Sample,
    accuracy_of,
    half_width,
    log_odds,
    rank_sets,
    sampling_variance,
    studentized_range,
    welch,
)


def sample(*groups: list[float]) -> Sample:
    """The sample of each list of log-odds."""
    n = np.array([float(len(group)) for group in groups])
    mean = np.array([np.mean(group) for group in groups])
    variance = np.array([np.var(group, ddof=1) if len(group) > 1 else np.nan for group in groups])
    return Sample(n, mean, variance)


def test_by_hand() -> None:
    """90 of 100 and half an example each: ln(90.5 / 10.5); its variance 1 / 90.5 + 1 / 10.5."""
    assert float(log_odds(0.9, 100)) == pytest.approx(math.log(90.5 / 10.5))
    assert float(sampling_variance(0.9, 100)) == pytest.approx(1 / 90.5 + 1 / 10.5)
    assert float(accuracy_of(math.log(9))) == pytest.approx(0.9)


def test_all_right_and_all_wrong_are_finite() -> None:
    """They are as far from 50 % in both directions, and farther with more examples."""
    found = log_odds([1.0, 0.0, 1.0], [100, 100, 10_000])
    assert np.isfinite(found).all()
    assert found[0] == -found[1] < found[2]


def test_the_sampling_variance_is_that_of_drawn_test_sets() -> None:
    """Ten thousand test sets of 500 images, of which a network knows 90 %."""
    right = np.random.default_rng(0).binomial(500, 0.9, 10_000) / 500
    expected = float(np.var(log_odds(right, 500)))
    assert float(sampling_variance(0.9, 500)) == pytest.approx(expected, rel=0.05)


GROUP = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=2, max_size=8, unique=True)


@given(GROUP, GROUP)
@settings(max_examples=60, deadline=None)
def test_welch_is_scipys(one: list[float], other: list[float]) -> None:
    """The p value and both ends of the interval."""
    found = welch(sample(one), sample(other))
    theirs = stats.ttest_ind(one, other, equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    assert found.p[0] == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-12)
    assert found.degrees[0] == pytest.approx(theirs.df, rel=1e-9)
    assert found.value[0] - found.half[0] == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert found.value[0] + found.half[0] == pytest.approx(high, rel=1e-9, abs=1e-9)


def test_the_interval_of_a_mean_is_scipys() -> None:
    """And one run has none."""
    values = [1.0, 1.5, 2.5]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert half_width(sample(values))[0] == pytest.approx((high - low) / 2)
    assert np.isnan(half_width(sample([1.0]))[0])
    assert np.isnan(welch(sample([1.0]), sample(values)).p[0])


@pytest.mark.parametrize("groups", [2, 3, 9, 20])
@pytest.mark.parametrize("degrees", [1.0, 1.7, 2.2, 4.6, 8.0, 22.5, 400.0])
def test_quantiles_of_the_range(groups: int, degrees: float) -> None:
    """Between the points at which they are computed, they are exact to a thousandth."""
    exact = stats.studentized_range.ppf(0.95, groups, degrees)
    assert float(studentized_range(groups, degrees)) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_rank_sets_are_those_of_games_and_howell(seed: int) -> None:
    """Scipy's test of all pairs without equal variances, counted pair by pair."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 7))
    groups = [
        list(draw.normal(draw.normal(0, 2), draw.uniform(0.1, 1), draw.integers(3, 9)))
        for _ in range(count)
    ]
    p = stats.tukey_hsd(*groups, equal_var=False).pvalue
    best, worst = rank_sets(sample(*groups))
    for i, group in enumerate(groups):
        others = [j for j in range(count) if j != i and p[i, j] <= 0.05]
        above = sum(np.mean(groups[j]) > np.mean(group) for j in others)
        assert (best[i], worst[i]) == (1 + above, count - (len(others) - above))


def test_a_single_run_says_nothing_about_its_rank() -> None:
    """It has no variance, so that it may have every rank, and others any rank beside it."""
    best, worst = rank_sets(sample([5.0], [1.0, 1.1, 0.9], [-9.0, -9.1, -8.9]))
    assert list(zip(best, worst, strict=True)) == [(1, 3), (1, 2), (2, 3)]


def drawn(size: tuple[int, ...], means: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(means, 1, size)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 10])
def test_rank_sets_cover(n: int) -> None:
    """Of 4,000 tables of eight methods with different means, 94 % or more have no false rank set.

    The bound allows for the noise of 4,000 draws, and for Games and Howell's test, which is known
    to be slightly too liberal for few runs.
    """
    means = np.repeat(np.linspace(0, 2, 8)[None, :], 1, axis=0)
    true = np.arange(8, 0, -1)
    covered = 0
    for seed in range(4_000):
        values = drawn((n, 8), means, seed)
        cells = Sample(np.full(8, float(n)), values.mean(0), values.var(0, ddof=1))
        best, worst = rank_sets(cells)
        covered += bool(((best <= true) & (true <= worst)).all())
    assert covered / 4_000 >= 0.94

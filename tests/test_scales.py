"""Axes show all densities where they are, and enlarge only where that helps."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.leaderboard.scales import places, shifts, zoom

NOTHING = float("nan")
SERIES = st.lists(st.floats(0, 100), max_size=30).map(lambda values: pd.Series(values, dtype=float))


def test_places_are_negative_logarithms_densest_first() -> None:
    """Each density once."""
    assert places(pd.Series([0.01, 1.0, 0.1, 0.1])) == {1.0: 0.0, 0.1: 1.0, 0.01: 2.0}


@pytest.mark.parametrize(
    ("at", "count", "expected"),
    [
        ({1.0: 0.0, 0.1: 1.0}, 1, [0.0]),
        ({1.0: 0.0, 0.1: 1.0}, 3, [-0.004, 0.0, 0.004]),
        ({1.0: 0.0, 0.1: 1.0}, 31, [-0.015, 0.015]),
        ({1.0: 0.0, 0.9: 0.05, 0.1: 1.0}, 31, [-0.005, 0.005]),
        ({1.0: 0.0}, 2, [0.0, 0.0]),
        ({}, 2, [0.0, 0.0]),
    ],
    ids=["one-line", "three", "many", "close-densities", "one-density", "none"],
)
def test_shifts_stay_small(at: dict[float, float], count: int, expected: list[float]) -> None:
    """Symmetric, by the number of lines, within 1.5 % of the axis and a tenth of a gap."""
    found = shifts(at, count)
    assert len(found) == count
    ends = found if len(expected) == count else [found[0], found[-1]]
    assert ends == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("means", "dense", "expected"),
    [
        ([10.0, *[94.0] * 9, 97.0], [98.0], (93.6, 98.4)),
        ([10.0, *[94.0] * 9, 97.0], [], (93.7, 97.3)),
        ([10.0, *[90.0] * 9, 99.9], [99.9], (89.01, 100)),
        ([10.0, *[90.0] * 9], [90.0], (89.9, 90.1)),
        ([10.0, 30.0, 50.0, 70.0, 90.0], [95.0], None),
        ([95.0, *[98.0] * 9], [98.5], None),
        ([], [98.0], None),
        ([NOTHING], [], None),
        ([10.0, 10.0, 12.0, 90.0], [10.0], None),
    ],
    ids=["top", "no-dense", "limit", "equal", "spread", "close", "empty", "lost", "crowd-below"],
)
def test_what_is_enlarged(
    means: list[float], dense: list[float], expected: tuple[float, float] | None
) -> None:
    """Where most means crowd below dense; nothing where they are spread, close or at the foot."""
    found = zoom(pd.Series(means, dtype=float), pd.Series(dense, dtype=float))
    assert found == (expected and pytest.approx(expected, abs=1e-9))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(SERIES, SERIES)
def test_what_is_enlarged_holds_most_means_and_is_small(means: pd.Series, dense: pd.Series) -> None:
    """The highest value and at least 85 % of the means, in less than half of the whole range."""
    if found := zoom(means, dense):
        low, high = found
        everything = pd.concat([means, dense])
        assert low < high <= 100 and everything.max() <= high
        assert (means >= low).mean() >= 0.84
        assert high - low < (everything.max() - everything.min()) / 2

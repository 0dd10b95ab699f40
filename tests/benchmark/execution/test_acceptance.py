"""The rule that decides whether a claimed result is accepted."""

import math

import pytest

from paibench.benchmark.execution.acceptance import accept, same_mask


def test_half_a_point() -> None:
    """If the fresh seeds agree, the means may differ by half a point and no more."""
    fresh = [0.9, 0.9, 0.9]
    assert accept([0.905], fresh).allowed == 0.005
    assert accept([0.9049], fresh).accepted
    assert not accept([0.9051], fresh).accepted
    assert not accept([0.8949], fresh).accepted


def test_three_standard_errors() -> None:
    """By hand: 0.88, 0.90 and 0.92 have s = 0.02, so 3 s / sqrt(3) = 0.0346 is allowed."""
    found = accept([0.93, 0.93], [0.88, 0.90, 0.92])
    assert found.allowed == pytest.approx(3 * 0.02 / math.sqrt(3))
    assert (found.claimed, found.n) == (0.93, 3)
    assert found.measured == pytest.approx(0.9)
    assert found.difference == pytest.approx(-0.03)
    assert found.accepted
    assert not accept([0.94], [0.88, 0.90, 0.92]).accepted


def test_a_claim_does_not_widen_its_own_interval() -> None:
    """The spread of the claimed accuracies does not matter."""
    fresh = [0.88, 0.90, 0.92]
    assert accept([0.1, 0.9], fresh).allowed == accept([0.5, 0.5], fresh).allowed


def test_two_seeds_are_too_few() -> None:
    """Three fresh seeds are needed, whatever they give."""
    assert not accept([0.9], [0.9, 0.9]).accepted
    with pytest.raises(ValueError, match="nothing to compare"):
        accept([], [0.9])


@pytest.mark.parametrize(
    ("equal", "elsewhere", "moved", "same"),
    [
        (True, False, None, True),
        (True, True, 0.0, True),
        (False, False, 0.0, False),
        (False, True, 0.001, True),
        (False, True, 0.0011, False),
        (False, True, None, False),
    ],
)
def test_the_same_mask(equal: bool, elsewhere: bool, moved: float | None, same: bool) -> None:
    """Masks are equal, or on another machine differ in at most a thousandth."""
    assert same_mask(equal, elsewhere, moved) is same

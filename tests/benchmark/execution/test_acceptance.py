"""The rule that decides whether a claimed result is accepted."""

import math
from hashlib import sha256

import numpy as np
import pytest
from numpy.typing import NDArray

from paibench.benchmark.execution.acceptance import accept, fresh_seeds, same_mask

SHARES: dict[tuple[int, int], dict[str | int, int]] = {
    (3, 5): {"honest": 95, 10: 68, 20: 49},
    (3, 20): {"honest": 96, 10: 50, 20: 20},
    (5, 5): {"honest": 95, 10: 75, 20: 52},
    (5, 20): {"honest": 95, 10: 60, 20: 20},
}
"""The percent of claims that are accepted, by n claimed runs, k fresh ones, and the choice: honest,
or the best n of so many runs."""


def test_half_a_point() -> None:
    """If the fresh seeds agree, their mean may be half a point lower and no more."""
    fresh = [0.9] * 5
    assert accept([0.905], fresh).allowed == 0.005
    assert accept([0.9049], fresh).accepted
    assert not accept([0.9051], fresh).accepted


def test_a_claim_that_is_too_low() -> None:
    """The test has one side: better fresh seeds refuse nothing."""
    assert accept([0.5], [0.9] * 5).accepted


def test_one_sided_t_test() -> None:
    """By hand: s = 0.01 sqrt(2.5); t(0.95, 4) = 2.1318 from a table; n = 2 and k = 5."""
    fresh = [0.88, 0.89, 0.90, 0.91, 0.92]
    found = accept([0.91, 0.93], fresh)
    assert found.allowed == pytest.approx(
        2.1318 * 0.01 * math.sqrt(2.5 * (1 / 2 + 1 / 5)), rel=1e-4
    )
    assert (found.claimed, found.measured, found.n) == pytest.approx((0.92, 0.90, 5))
    assert found.difference == pytest.approx(-0.02)
    assert found.accepted
    assert not accept([0.93], fresh[:4] + [0.91]).accepted


def test_a_claim_does_not_widen_its_own_interval() -> None:
    """The spread of the claimed accuracies does not matter."""
    fresh = [0.88, 0.89, 0.90, 0.91, 0.92]
    assert accept([0.1, 0.9], fresh).allowed == accept([0.5, 0.5], fresh).allowed


def test_four_seeds_are_too_few() -> None:
    """Five fresh seeds are needed, whatever they give."""
    assert not accept([0.9], [0.9] * 4).accepted
    assert not accept([0.9], [0.9]).accepted
    with pytest.raises(ValueError, match="nothing to compare"):
        accept([], [0.9])


@pytest.mark.parametrize(("n", "k"), SHARES)
def test_how_often_claims_are_accepted(n: int, k: int) -> None:
    """Of normal accuracies: honest claims in 95 %, the best of ten or twenty runs less often.

    docs/publishing.md has these shares.
    """
    draws = np.random.default_rng(0).normal(0.9, 0.02, (2000, 50))
    fresh = draws[:, 20 : 20 + k].tolist()
    claims: dict[str | int, NDArray[np.float64]] = {"honest": draws[:, :n]}
    claims |= {tries: np.sort(draws[:, :tries])[:, -n:] for tries in (10, 20)}
    shares = {
        name: np.mean([accept(*pair).accepted for pair in zip(each.tolist(), fresh, strict=True)])
        for name, each in claims.items()
    }
    assert {name: round(100 * float(share)) for name, share in shares.items()} == SHARES[n, k]


def test_fresh_seeds_are_public() -> None:
    """Anybody can compute them from the records and the salt, in any order; none is used twice."""
    seeds = fresh_seeds(["b" * 64, "a" * 64], "salt", 4, ())
    assert seeds == fresh_seeds(["a" * 64, "b" * 64], "salt", 4, ())
    lines = ["salt", "a" * 64, "b" * 64]
    theirs = [
        int(sha256("\n".join([*lines, str(i)]).encode()).hexdigest()[:8], 16) // 2 for i in range(5)
    ]
    assert seeds == theirs[:4]
    assert fresh_seeds(["a" * 64, "b" * 64], "salt", 4, theirs[:1]) == theirs[1:]
    assert set(seeds).isdisjoint(fresh_seeds(["a" * 64, "b" * 64], "pepper", 4, ()))
    assert set(seeds).isdisjoint(fresh_seeds(["a" * 64, "c" * 64], "salt", 4, ()))


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

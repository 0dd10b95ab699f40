"""The rule that decides whether a claimed result is accepted after it was run again."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

POINTS = 0.005
"""The accuracy by which a result may always differ: half a point, since hardware differs."""
SPREADS = 3.0
"""The number of standard deviations over seeds by which a result may differ."""
OVERLAP = 0.999
"""The smallest fraction of kept weights that two masks have in common if they count as equal."""
FRESH_SEEDS = 3
"""The smallest number of seeds, unknown to the author, that a claim is compared with."""


class Acceptance(NamedTuple):
    """The claimed and the measured mean accuracy, and the largest accepted difference."""

    claimed: float
    measured: float
    allowed: float
    n: int
    """The number of fresh seeds."""

    @property
    def difference(self) -> float:
        """The measured minus the claimed mean."""
        return self.measured - self.claimed

    @property
    def accepted(self) -> bool:
        """Whether there are enough seeds and the means are close enough."""
        return self.n >= FRESH_SEEDS and abs(self.difference) <= self.allowed


def tolerance(accuracies: Sequence[float], averaged: int = 1) -> float:
    """Return by how much a mean of `averaged` runs may differ from a claim.

    It is half a point, or 3 s / sqrt(averaged) if that is more, where s is the standard deviation
    (n - 1) of `accuracies`, runs that differ only in their seeds.
    """
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    return max(POINTS, SPREADS * spread / math.sqrt(averaged))


def accept(claimed: Sequence[float], fresh: Sequence[float]) -> Acceptance:
    """Compare the mean of claimed accuracies with the mean of fresh seeds, as fractions.

    Raises ValueError if either is empty.
    """
    if not claimed or not fresh:
        raise ValueError("there is nothing to compare")
    # The spread comes from the fresh runs alone: a claim must not widen its own interval.
    allowed = tolerance(fresh, averaged=len(fresh))
    return Acceptance(statistics.fmean(claimed), statistics.fmean(fresh), allowed, len(fresh))


def same_mask(equal: bool, environments_differ: bool, moved_fraction: float | None) -> bool:
    """Return whether a mask that was searched again with the same seed is the claimed one.

    The two are `equal`; or, if hardware or software differ (`environments_differ`), at most a
    thousandth of the kept weights lie elsewhere in the second mask (`moved_fraction`).
    """
    # The small constant absorbs the rounding error of 1 - 0.999.
    return equal or (
        environments_differ and moved_fraction is not None and moved_fraction <= 1 - OVERLAP + 1e-12
    )

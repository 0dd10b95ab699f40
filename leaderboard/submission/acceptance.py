"""When a claim is taken for true after it was run again here."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

POINTS = 0.005  # of accuracy, which is half a point
SPREADS = 3.0
OVERLAP = 0.999
"""Of the kept weights, which a mask found elsewhere has in common at the least."""
FRESH = 3
"""How many seeds that its author did not see a claim is held to."""


class Acceptance(NamedTuple):
    """The means of what was claimed and of what came, and how far they may lie apart."""

    claimed: float
    came: float
    allowed: float
    n: int
    """How many fresh seeds there were."""

    @property
    def difference(self) -> float:
        """What came minus what was claimed."""
        return self.came - self.claimed

    @property
    def accepted(self) -> bool:
        """Whether there were seeds enough, and the means lie near enough."""
        return self.n >= FRESH and abs(self.difference) <= self.allowed


def accept(claimed: Sequence[float], fresh: Sequence[float]) -> Acceptance:
    """Hold the mean of claimed accuracies to that of fresh seeds, both as fractions.

    They may differ by half a point, or by 3 s / sqrt(k) where that is more: s is the standard
    deviation (of k - 1) of the k fresh runs, so that what is claimed does not widen its own
    interval. Raises ValueError where one of the two is empty.
    """
    if not claimed or not fresh:
        raise ValueError("there is nothing to compare")
    spread = statistics.stdev(fresh) if len(fresh) > 1 else 0.0
    allowed = max(POINTS, SPREADS * spread / math.sqrt(len(fresh)))
    return Acceptance(statistics.fmean(claimed), statistics.fmean(fresh), allowed, len(fresh))


def same_mask(equal: bool, elsewhere: bool, moved: float | None) -> bool:
    """Whether a mask that was found again with the same seed is the one that was claimed.

    Equal, or where the machine or the software is another (`elsewhere`) with at most a
    thousandth of the kept weights `moved`.
    """
    return equal or (elsewhere and moved is not None and moved <= 1 - OVERLAP + 1e-12)

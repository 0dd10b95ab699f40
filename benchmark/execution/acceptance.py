"""The rule that decides whether a claimed result is accepted after it was run again."""

import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from itertools import count
from typing import NamedTuple

from scipy.special import stdtrit

POINTS = 0.005
"""The accuracy by which a result may always differ: half a point, since hardware differs."""
SPREADS = 3.0
"""The number of standard deviations over seeds by which one run may differ."""
LEVEL = 0.05
"""The chance that an honest claim is refused, if results vary by more than half a point."""
OVERLAP = 0.999
"""The smallest fraction of kept weights that two masks have in common if they count as equal."""
FRESH_SEEDS = 5
"""The smallest number of seeds, unknown to the author, that a claim is compared with."""


class Acceptance(NamedTuple):
    """The claimed and the measured mean accuracy, and how far below the claim the second may be."""

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
        """Whether there are enough seeds and the measured mean is not too far below the claim."""
        # A claim that is too low harms nobody but its author.
        return self.n >= FRESH_SEEDS and -self.difference <= self.allowed


def tolerance(accuracies: Sequence[float]) -> float:
    """Return by how much a run that is done again may differ from the first one.

    It is half a point, or 3 s if that is more, where s is the standard deviation (n - 1) of
    `accuracies`, runs that differ only in their seeds.
    """
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    return max(POINTS, SPREADS * spread)


def accept(claimed: Sequence[float], fresh: Sequence[float]) -> Acceptance:
    """Compare the mean of n claimed accuracies with that of k fresh seeds, as fractions.

    The fresh mean may be lower by half a point, or by t(0.95, k - 1) s sqrt(1/n + 1/k) if that is
    more: a one-sided test, with the standard deviation s of the fresh runs. Raises ValueError if
    either is empty.
    """
    if not claimed or not fresh:
        raise ValueError("there is nothing to compare")
    n, k = len(claimed), len(fresh)
    # The spread comes from the fresh runs alone: a claim must not widen its own interval.
    spread = statistics.stdev(fresh) if k > 1 else 0.0
    error = spread * math.sqrt(1 / n + 1 / k)
    allowed = max(POINTS, float(stdtrit(k - 1, 1 - LEVEL)) * error) if error else POINTS
    return Acceptance(statistics.fmean(claimed), statistics.fmean(fresh), allowed, k)


def fresh_seeds(digests: Iterable[str], salt: str, number: int, used: Collection[int]) -> list[int]:
    """Return seeds that nobody chose, from the sha256 of the claimed records and a salt.

    Seed i has the first 31 bits of the sha256 of the lines `salt`, the sorted `digests`, and i,
    from i = 0; seeds that are `used` are skipped. The author of the records does not know the salt,
    and whoever verifies them cannot try seeds in secret: anybody can compute these from the mark.
    """
    seeds: list[int] = []
    lines = [salt, *sorted(digests)]
    for index in count():
        if len(seeds) == number:
            break
        drawn = sha256("\n".join([*lines, str(index)]).encode()).digest()
        seed = int.from_bytes(drawn[:4], "big") >> 1
        if seed not in used and seed not in seeds:
            seeds.append(seed)
    return seeds


def same_mask(equal: bool, environments_differ: bool, moved_fraction: float | None) -> bool:
    """Return whether a mask that was searched again with the same seed is the claimed one.

    The two are `equal`; or, if hardware or software differ (`environments_differ`), at most a
    thousandth of the kept weights lie elsewhere in the second mask (`moved_fraction`).
    """
    # The small constant absorbs the rounding error of 1 - 0.999.
    return equal or (
        environments_differ and moved_fraction is not None and moved_fraction <= 1 - OVERLAP + 1e-12
    )

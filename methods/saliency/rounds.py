"""Pruning in rounds: each round scores the remaining weights and prunes the lowest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from paibench.methods.core.mask import flatnonzero, flatten, num_kept, top

Schedule = Literal["exponential", "linear"]


def round_counts(density: float, total: int, rounds: int, schedule: Schedule) -> list[int]:
    """Return how many of `total` weights remain after each round; the last count is exact.

    After round r of n the density is density ** (r / n) (`exponential`), or it decreases by the
    same amount in each round (`linear`).
    """
    kept_count = num_kept(density, total)
    progress = [done / rounds for done in range(1, rounds)]
    densities = [
        density**fraction if schedule == "exponential" else 1 - (1 - density) * fraction
        for fraction in progress
    ]
    # rounding must not prune below the final count
    return [max(round(level * total), kept_count) for level in densities] + [kept_count]


def as_one_vector(weights: Mapping[str, Tensor]) -> Tensor:
    """Return all values in one vector, of which the weights become views.

    Setting an entry of the vector to 0 then prunes a weight of the network.
    """
    flat = flatten(weights)
    parts = torch.split(flat, [weight.numel() for weight in weights.values()])
    for weight, part in zip(weights.values(), parts, strict=True):
        weight.data = part.view(weight.shape)
    return flat


def prune_in_rounds(
    flat: Tensor, gradients: Callable[[], Sequence[Tensor]], counts: Sequence[int], seed: int = 0
) -> Tensor:
    """Zero entries of `flat` in rounds, in place, and return the order of elimination.

    Each round keeps the `counts[round]` remaining entries with the largest |entry * gradient|;
    `gradients()` returns the gradients of all entries, in consecutive tensors. Among equal products
    a lot decides, which depends on the seed. An entry whose product is 0 from the start gets 0 and
    is pruned first. One that is pruned in round r (from 0) gets a number in [r, r + 1), lower for a
    lower product. The last round only scores: with n rounds, its entries get n plus their rank
    from 0, and equal products get equal ranks. Raises OverflowError if a score is
    not finite.
    """
    order = torch.zeros_like(flat, dtype=torch.float64)
    remaining = RemainingWeights(flat)
    # Pruned entries stay in the vectors with score -1 until they are many: compacting costs more.
    pruned = remaining.indices[:0]
    for done, count in enumerate(counts):
        scores = remaining.scores(gradients)
        highest = float(scores.max())
        # written so that NaN is refused too
        if not highest < float("inf"):
            raise OverflowError(f"a score is {highest}")
        # half at most, so that no score reaches the next round; 1 if all scores are 0
        unit = 2 * highest or 1.0
        if done == 0:
            # pruning adds no flow, so that these never have any
            pruned = flatnonzero(scores == 0)
            flat[pruned] = 0
            if len(pruned) == len(scores):
                return order
        scores[pruned] = -1
        last = done + 1 == len(counts)
        if last:
            # the harness makes this cut, so that it sees which scores are tied
            count = len(scores)
        survives = top(scores, min(count, len(scores) - len(pruned)), seed=seed)
        pruned = flatnonzero(~survives)
        pruned_scores = scores[pruned]
        new = flatnonzero(pruned_scores >= 0)
        indices = remaining.indices[pruned[new]]
        order[indices] = pruned_scores[new].double() / unit + done
        flat[indices] = 0
        if 5 * len(pruned) > len(scores) or last:
            survivors = flatnonzero(survives)
            scores, pruned = scores[survivors], pruned[:0]
            remaining.compact(survivors)
    # exact ranks, because a sum with a score would round
    order[remaining.indices] = len(counts) + torch.unique(scores, return_inverse=True)[1].double()
    return order


class RemainingWeights:
    """The indices, in order, and the values of the entries of a vector that are not pruned.

    Once most entries are pruned, no operation copies the full length of the vector.
    """

    def __init__(self, flat: Tensor) -> None:
        self.indices = torch.arange(flat.numel(), device=flat.device)
        self.values = flat.clone()
        self._local: list[Tensor] = []  # the indices relative to the start of each tensor

    def scores(self, gradients: Callable[[], Sequence[Tensor]]) -> Tensor:
        """Return |value * gradient| of each remaining entry."""
        all_gradients = gradients()
        if not self._local:
            self._local = list(self._locate([gradient.numel() for gradient in all_gradients]))
        scores = torch.empty_like(self.values)
        parts = torch.split(scores, [len(local) for local in self._local])
        for part, gradient, local in zip(parts, all_gradients, self._local, strict=True):
            if len(local) == gradient.numel():
                part.copy_(gradient.reshape(-1))  # much faster than to take all
            else:
                torch.take(gradient.reshape(-1), local, out=part)
        return scores.mul_(self.values).abs_()

    def compact(self, survivors: Tensor) -> None:
        """Drop all entries but the survivors, which are positions among the remaining entries."""
        self.indices, self.values = self.indices[survivors], self.values[survivors]
        self._local = []

    def _locate(self, sizes: list[int]) -> Iterator[Tensor]:
        ends = torch.tensor(sizes, device=self.indices.device).cumsum(0)
        counts = torch.searchsorted(self.indices, ends).diff(prepend=ends.new_zeros(1)).tolist()
        starts = (ends - ends.new_tensor(sizes)).tolist()
        for start, indices in zip(starts, torch.split(self.indices, counts), strict=True):
            yield indices - start

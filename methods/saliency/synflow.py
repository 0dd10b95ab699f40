"""SynFlow: keep the weights with the largest synaptic flow; no data are used.

Paper: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020.

The flow R is the sum of the outputs for an input of ones if every weight has its absolute value;
the score of a weight is its share |w| * dR/d|w| of the flow (section 6). The default prunes in a
hundred rounds, because one round empties whole layers.

Batch norms are those of initialization (mean 0, variance 1). Biases and shifts count as 0, as in
the authors' networks: they would add flow that no input sends. The ones are multiplied by a tiny
number, which changes nothing in the authors' networks and makes others linear; `positive.py` says
what flow is in them. The default precision is float64; the authors' release has float32, in which
deep networks on large images overflow, and very sparse ones come close to 0.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import flatnonzero, flatten, num_kept, prunable, top, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.positive import Flow


def synflow(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    iterations: Annotated[int, "[1, inf)"] = 100,
    schedule: Literal["exponential", "linear"] = "exponential",
    precision: Literal["float64", "float32"] = "float64",
) -> Scores:
    """Return the order of elimination, see `prune_in_rounds`; the harness makes the last cut.

    Options:
        iterations: the number of rounds of pruning.
        schedule: after round e of n the density is density ** (e / n) (`exponential`), or it
            decreases by the same amount in each round (`linear`).
        precision: the floating-point type of the flow; casts in the network are ignored.

    Raises UserError if the network has no synaptic flow, or its flow overflows.
    """
    if iterations < 1:
        raise UserError(f"iterations = {iterations!r} is out of range; give 1 or more")
    # a copy: the authors take absolute values in place and restore the signs afterwards
    flow = Flow(net, task.shape, getattr(torch, precision))
    weights = list(flow.weights.values())
    flat = flatten(flow.weights)
    for weight, view in zip(weights, torch.split(flat, [w.numel() for w in weights]), strict=True):
        weight.data = view.view(weight.shape)  # zeroing an entry of `flat` prunes the weight

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(flow(), weights, materialize_grads=True)

    kept_count = num_kept(density, flat.numel())
    progress = [done / iterations for done in range(1, iterations)]
    densities = [
        density**fraction if schedule == "exponential" else 1 - (1 - density) * fraction
        for fraction in progress
    ]
    # rounding must not prune below the final count
    counts = [max(round(level * flat.numel()), kept_count) for level in densities] + [kept_count]
    try:
        order = prune_in_rounds(flat, gradients, counts, task.seed)
    except OverflowError as error:
        raise flow.not_finite() from error
    return Scores(unflatten(order, prunable(net)))


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

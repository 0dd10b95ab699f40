"""SynFlow: keep the weights with the largest synaptic flow; no data are used.

Paper: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020.

The flow R is the sum of the outputs for an input of ones if every weight has its absolute value;
the score of a weight is its share |w| * dR/d|w| of the flow (section 6). The default prunes in a
hundred rounds, because one round empties whole layers.

Batch norms are those of initialization (mean 0, variance 1). Biases and shifts count as 0, as in
the authors' networks: they would add flow that no input sends. The default precision is float64;
the authors' release has float32, which overflows in deep networks on large images.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from paibench.methods.core.mask import flatnonzero, flatten, num_kept, prunable, top, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores

_BY_CHANNEL = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
_BY_FEATURE = (nn.LayerNorm, nn.RMSNorm)


def synflow(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    iterations: int = 100,
    schedule: Literal["exponential", "linear"] = "exponential",
    precision: Literal["float64", "float32"] = "float64",
) -> Scores:
    """Return the order of elimination: the integer part of a score is the round of pruning.

    Options:
        iterations: the number of rounds of pruning.
        schedule: after round e of n the density is density ** (e / n) (`exponential`), or it
            decreases by the same amount in each round (`linear`).
        precision: the floating-point type of the flow.

    Raises ValueError if the flow overflows.
    """
    if iterations < 1:
        raise UserError(f"iterations = {iterations!r} is out of range; give 1 or more")
    # a copy: the authors take absolute values in place and restore the signs afterwards
    copy = positive(net).to(getattr(torch, precision))
    weights = list(prunable(copy).values())
    flat = flatten(prunable(copy))
    for weight, view in zip(weights, torch.split(flat, [w.numel() for w in weights]), strict=True):
        weight.data = view.view(weight.shape)  # zeroing an entry of `flat` prunes the weight
    ones = torch.ones(1, *task.shape, dtype=flat.dtype, device=flat.device)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(copy(ones).sum(), weights, materialize_grads=True)

    kept_count = num_kept(density, flat.numel())
    progress = [done / iterations for done in range(1, iterations)]
    densities = [
        density**fraction if schedule == "exponential" else 1 - (1 - density) * fraction
        for fraction in progress
    ]
    # rounding must not prune below the final count
    counts = [max(round(level * flat.numel()), kept_count) for level in densities] + [kept_count]
    return Scores(unflatten(prune_in_rounds(flat, gradients, counts), prunable(net)))


def prune_in_rounds(
    flat: Tensor, gradients: Callable[[], Sequence[Tensor]], counts: Sequence[int]
) -> Tensor:
    """Zero entries of `flat` in rounds, in place, and return the order of elimination.

    Each round keeps the `counts[round]` remaining entries with the largest |entry * gradient|;
    `gradients()` returns the gradients of all entries, in consecutive tensors. An entry that is
    pruned in round r (from 0) gets a number in [r, r + 1), lower for a lower product; an entry
    that is never pruned gets one in [rounds, rounds + 1). Raises ValueError on overflow.
    """
    order = torch.empty_like(flat, dtype=torch.float64)
    remaining = RemainingWeights(flat)
    # Pruned entries stay in the vectors with score -1 until they are many: compacting costs more.
    pruned = remaining.indices[:0]
    for done, count in enumerate(counts):
        scores = remaining.scores(gradients)
        highest = float(scores.max())
        # written so that NaN is refused too
        if not highest < float("inf"):
            raise ValueError(f"the flow overflows {flat.dtype}: a score is {highest}")
        # half at most, so that no score reaches the next round; 1 if all scores are 0
        unit = 2 * highest or 1.0
        scores[pruned] = -1
        survives = top(scores, count)
        pruned = flatnonzero(~survives)
        pruned_scores = scores[pruned]
        new = flatnonzero(pruned_scores >= 0)
        indices = remaining.indices[pruned[new]]
        order[indices] = pruned_scores[new].double() / unit + done
        flat[indices] = 0
        if 5 * len(pruned) > len(scores) or done + 1 == len(counts):
            survivors = flatnonzero(survives)
            scores, pruned = scores[survivors], pruned[:0]
            remaining.compact(survivors)
    order[remaining.indices] = scores.double() / unit + len(counts)
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


def as_factor(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
    """Replace a norm by a linear map: its input times its scale, over the size of its input.

    This is a forward hook. The scale has one entry per channel of [n, c, ...], or per feature of
    [..., f]. The size is the root mean square of the whole input, held constant: without it the
    flow through a residual network would grow with each block until it overflows.
    """
    (x,), weight = inputs, norm.weight
    size = x.detach().square().mean().sqrt()
    flow = x / torch.where(size > 0, size, 1)
    if not isinstance(weight, Tensor):
        return flow
    by_channel = isinstance(norm, _BY_CHANNEL)
    return flow * (weight.view(-1, *(1,) * (x.dim() - 2)) if by_channel else weight)


def positive(net: nn.Module) -> nn.Module:
    """Return a copy of `net` in which nothing is negative, biases are 0 and norms are linear."""
    copy = deepcopy(net).eval()
    for module in copy.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            # flow is conserved only with the statistics of initialization
            module.reset_running_stats()
        elif isinstance(module, (*_BY_CHANNEL, *_BY_FEATURE)):
            module.register_forward_hook(as_factor)
    with torch.no_grad():
        # buffers too: the authors take the absolute value of the whole state dict
        for name, tensor in (*copy.named_parameters(), *copy.named_buffers()):
            if name.rpartition(".")[2].endswith("bias"):
                tensor.zero_()
            elif tensor.is_floating_point():
                tensor.abs_()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    for weight in prunable(copy).values():
        weight.requires_grad_()
    return copy

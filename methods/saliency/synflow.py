"""SynFlow: weights stay that carry much of the flow through the network, without data.

Paper: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020.

The flow R is the sum of the outputs for an input of ones when every weight has its absolute value;
a weight's score is its share |w| * dR/d|w|. A hundred rounds each remove a little, because one
round empties whole layers. Batch norms are those of initialization (mean 0, variance 1). Biases
and shifts, 0 in the authors' networks, count as 0: they would add flow that no input sends. The
default is float64; the authors' release has float32, which deep networks on large images overflow.
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
    """The order of elimination: the whole part of a score is the round in which its weight fell.

    Options:
        iterations: in how many rounds weights are removed.
        schedule: after round e of n the density is density ** (e / n) (`exponential`), or it
            falls by the same amount each round (`linear`).
        precision: the numbers that flow is computed in.

    Raises ValueError when the flow overflows.
    """
    if iterations < 1:
        raise UserError(f"iterations = {iterations!r} is out of range; give 1 or more")
    copy = positive(net).to(getattr(torch, precision))
    weights = list(prunable(copy).values())
    flat = flatten(prunable(copy))
    for weight, view in zip(weights, torch.split(flat, [w.numel() for w in weights]), strict=True):
        weight.data = view.view(weight.shape)  # to zero an entry of `flat` is to prune it
    ones = torch.ones(1, *task.shape, dtype=flat.dtype, device=flat.device)

    def slopes() -> tuple[Tensor, ...]:
        return torch.autograd.grad(copy(ones).sum(), weights, materialize_grads=True)

    kept = num_kept(density, flat.numel())
    reached = [done / iterations for done in range(1, iterations)]
    reached = [density**e if schedule == "exponential" else 1 - (1 - density) * e for e in reached]
    counts = [max(round(part * flat.numel()), kept) for part in reached] + [kept]
    return Scores(unflatten(prune_in_rounds(flat, slopes, counts), prunable(net)))


def prune_in_rounds(
    flat: Tensor, slopes: Callable[[], Sequence[Tensor]], counts: Sequence[int]
) -> Tensor:
    """Zero entries of `flat` in rounds, in place, and give the order in which they fell.

    Each round keeps `counts[round]` of those that stand, by the product of an entry and its
    slope; `slopes` gives the slopes of all entries, in consecutive tensors. What falls in round r
    (from 0) has a number in [r, r + 1), lower for a lower product; what stands to the end has one
    in [rounds, rounds + 1). Raises ValueError on overflow.
    """
    order = torch.empty_like(flat, dtype=torch.float64)
    standing = RemainingWeights(flat)
    fallen = standing.places[:0]  # since the last cut, which takes longer than to pass over them
    for done, count in enumerate(counts):
        scores = standing.scores(slopes)
        highest = float(scores.max())
        if not highest < float("inf"):
            raise ValueError(f"the flow overflows {flat.dtype}: a score is {highest}")
        unit = 2 * highest or 1.0
        scores[fallen] = -1
        stands = top(scores, count)
        fallen = flatnonzero(~stands)
        last = scores[fallen]
        new = flatnonzero(last >= 0)
        places = standing.places[fallen[new]]
        order[places] = last[new].double() / unit + done
        flat[places] = 0
        if 5 * len(fallen) > len(scores) or done + 1 == len(counts):
            left = flatnonzero(stands)
            scores, fallen = scores[left], fallen[:0]
            standing.cut(left)
    order[standing.places] = scores.double() / unit + len(counts)
    return order


class RemainingWeights:
    """The entries of a vector that stand: their places, in order, and their values.

    Nothing of the vector's full length is copied once most of it has fallen.
    """

    def __init__(self, flat: Tensor) -> None:
        self.places = torch.arange(flat.numel(), device=flat.device)
        self.values = flat.clone()
        self._within: list[Tensor] = []  # the places counted from the start of each tensor

    def scores(self, slopes: Callable[[], Sequence[Tensor]]) -> Tensor:
        """|value * slope| of each entry that stands, the slopes given in consecutive tensors."""
        found = slopes()
        if not self._within:
            self._within = list(self._locate([slope.numel() for slope in found]))
        scores = torch.empty_like(self.values)
        parts = torch.split(scores, [len(within) for within in self._within])
        for part, slope, within in zip(parts, found, self._within, strict=True):
            if len(within) == slope.numel():
                part.copy_(slope.reshape(-1))
            else:
                torch.take(slope.reshape(-1), within, out=part)
        return scores.mul_(self.values).abs_()

    def cut(self, left: Tensor) -> None:
        """Go on with the entries of these numbers alone."""
        self.places, self.values, self._within = self.places[left], self.values[left], []

    def _locate(self, sizes: list[int]) -> Iterator[Tensor]:
        ends = torch.tensor(sizes, device=self.places.device).cumsum(0)
        counts = torch.searchsorted(self.places, ends).diff(prepend=ends.new_zeros(1)).tolist()
        starts = (ends - ends.new_tensor(sizes)).tolist()
        for start, within in zip(starts, torch.split(self.places, counts), strict=True):
            yield within - start


def as_factor(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
    """A norm as a linear map: its input times its factor, over the size that the input has now.

    A forward hook; the factor is of each channel of [n, c, ...], or of each feature of [..., f].
    The size is the root mean square of the whole input, held constant: without it the flow through
    a residual network would grow with each block until it overflows.
    """
    (x,), weight = inputs, norm.weight
    size = x.detach().square().mean().sqrt()
    flow = x / torch.where(size > 0, size, 1)
    if not isinstance(weight, Tensor):
        return flow
    by_channel = isinstance(norm, _BY_CHANNEL)
    return flow * (weight.view(-1, *(1,) * (x.dim() - 2)) if by_channel else weight)


def positive(net: nn.Module) -> nn.Module:
    """A copy of `net` in which nothing is negative, biases are 0 and norms are linear."""
    copy = deepcopy(net).eval()
    for module in copy.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.reset_running_stats()
        elif isinstance(module, (*_BY_CHANNEL, *_BY_FEATURE)):
            module.register_forward_hook(as_factor)
    with torch.no_grad():
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

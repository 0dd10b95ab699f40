"""Shared by supermask finders: a network of frozen weights in which only scores are trained.

The scores are one flat vector, tensor after tensor in row-major order: a threshold over all layers
needs no copy, the optimizer updates one tensor, and a change of the network's memory layout does
not affect them.
"""

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from paibench.methods.core.mask import MaskHistory, Weights, prunable, unflatten

Effective = Callable[[Tensor, Weights], Weights]
MOST_INTERVALS = 24
"""A record keeps the distances of at most one mask more: all pairs of 160 epochs take 100 KB."""


class Supermask(nn.Module):
    """A copy of a network whose only trainable parameter is the scores of its weights.

    Each forward pass uses the weights `effective(scores, weights)`, where `weights` are the
    prunable weights by name. All parameters of the copy are frozen, including biases and those of
    norms; running statistics change during training. Entries of `weights` replace those of the
    network.
    """

    def __init__(
        self,
        net: nn.Module,
        scores: Tensor,
        effective: Effective,
        weights: Weights | None = None,
    ) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.weights: Weights = dict(prunable(self.net))
        for name, replaced in (weights or {}).items():
            self.weights[name].copy_(replaced)
        device = next(iter(self.weights.values())).device
        self.scores = nn.Parameter(scores.detach().clone().to(device))
        self.effective = effective

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of the masked network."""
        # the parameters of the copy stay as they are, so that no pass must restore them
        effective = self.effective(self.scores, self.weights)
        logits: Tensor = functional_call(self.net, effective, (inputs,))
        return logits


class MaskLog(nn.Module):
    """The masks of a search before training and after every epoch, or every few of a long search.

    They are a buffer, so that as a part of the trained module they are in its checkpoints.
    """

    bits: Tensor

    def __init__(self, weights_count: int, epochs: int) -> None:
        super().__init__()
        self.size = weights_count
        self.every = max(-(-epochs // MOST_INTERVALS), 1)
        shape = (epochs // self.every + 1, -(-weights_count // 8))
        self.register_buffer("bits", torch.zeros(shape, dtype=torch.uint8))

    def put(self, epochs_done: int, mask: Tensor) -> None:
        """Keep the flat mask, of 0 and 1, if one is due after so many epochs."""
        if epochs_done % self.every == 0:
            packed = np.packbits(mask.cpu().numpy() > 0)
            self.bits[epochs_done // self.every].copy_(torch.from_numpy(packed))

    def distances(self) -> Tensor:
        """Return the distances [t, t] of `MaskHistory`; those from later masks are 0."""
        history = MaskHistory()
        matrix = torch.zeros(len(self.bits), len(self.bits), dtype=torch.float64)
        for row, bits in zip(matrix, self.bits.cpu().numpy(), strict=True):
            earlier = history.add_packed(bits, self.size)
            row[: len(earlier)] = torch.tensor(earlier, dtype=torch.float64)
        return matrix


def rows(distances: Tensor) -> tuple[tuple[float, ...], ...]:
    """Return a matrix of `MaskLog` as a ticket has it: row t holds the distances before t."""
    return tuple(tuple(row[:t]) for t, row in enumerate(distances.tolist()))


# autograd sees `values` in place of the mask, because a comparison has no gradient
class _Masked(torch.autograd.Function):
    """See `masked`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*weights)
        return tuple(torch.mul(w, m) for w, m in zip(weights, _pieces(mask, weights), strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights = ctx.saved_tensors
        # pieces are views, so that their gradients need no concatenation
        flat = weights[0].new_empty(sum(weight.numel() for weight in weights))
        for piece, weight, gradient in zip(_pieces(flat, weights), weights, gradients, strict=True):
            torch.mul(weight, gradient, out=piece)
        return flat, None, *(None for _ in weights)


def _pieces(flat: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    named = unflatten(flat, {str(number): weight for number, weight in enumerate(weights)})
    return tuple(named.values())


def masked(values: Tensor, mask: Tensor, weights: Weights) -> Weights:
    """Return the weights times the mask, with a straight-through gradient.

    `values` and `mask` are flat and cover all weights; the mask is 0 or 1 in the weights' type,
    which multiplies several times faster than booleans. `values` receive the gradient of the mask:
    the weight times the gradient of the effective weight, whether the mask keeps the weight or
    not. The weights receive none.
    """
    return dict(zip(weights, _Masked.apply(values, mask, *weights.values()), strict=True))


def cache_name(method: str, **options: object) -> str:
    """Return the name under which runs with these options share a search through `Task.memo`."""
    text = repr(sorted(options.items()))
    # a digest, because the name of a stage has at most 64 characters
    return f"{method}.{hashlib.sha256(text.encode()).hexdigest()[:24]}"

"""What supermask finders share: a network of frozen weights in which only scores are trained.

The scores are one flat vector, the prunable weights one after another, each in row-major
order: thresholds over all layers need no copy, the optimizer has one tensor, and a change
of the network's memory layout does not touch them.
"""

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from paibench.methods.core.mask import Weights, prunable, unflatten

Effective = Callable[[Tensor, Weights], Weights]


class Supermask(nn.Module):
    """A copy of a network whose only trainable parameter is the scores of its weights.

    Each forward pass runs the copy with the weights `effective(scores, weights)`, where
    `weights` are the prunable ones by name. All parameters of the copy are frozen, biases and
    those of norms included; running statistics move when it trains. Entries of `weights`
    replace those of the network.
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
        """The logits of the masked network."""
        effective = self.effective(self.scores, self.weights)
        logits: Tensor = functional_call(self.net, effective, (inputs,))
        return logits


class _Masked(torch.autograd.Function):
    """See `masked`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*weights)
        return tuple(torch.mul(w, m) for w, m in zip(weights, _pieces(mask, weights), strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights = ctx.saved_tensors
        flat = weights[0].new_empty(sum(weight.numel() for weight in weights))
        for piece, weight, gradient in zip(_pieces(flat, weights), weights, gradients, strict=True):
            torch.mul(weight, gradient, out=piece)
        return flat, None, *(None for _ in weights)


def _pieces(flat: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    named = unflatten(flat, {str(number): weight for number, weight in enumerate(weights)})
    return tuple(named.values())


def masked(values: Tensor, mask: Tensor, weights: Weights) -> Weights:
    """The weights where the mask is 1 and 0 elsewhere, with a straight-through gradient.

    `values` and `mask` are flat and cover all weights; the mask is numbers, 0 and 1 in the
    weights' type, which multiplies several times faster than booleans. The gradient that
    reaches `values` is the mask's own: the weight times the gradient of the effective weight,
    whether the mask keeps it or not. The weights get none.
    """
    return dict(zip(weights, _Masked.apply(values, mask, *weights.values()), strict=True))


def cache_name(method: str, **options: object) -> str:
    """The name under which a search with these options is shared through `Task.memo`."""
    text = repr(sorted(options.items()))
    return f"{method}.{hashlib.sha256(text.encode()).hexdigest()[:24]}"

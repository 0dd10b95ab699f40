"""Magnitude at initialization: keep the largest weights; no data are used.

Paper: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015.

The paper prunes after training; this is the baseline of the studies of pruning at initialization.
By default all layers compete. Under Kaiming initialization wide layers have small weights and are
pruned first, down to layer collapse; with `uniform`, weights compete within each layer. LAMP scores
(Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021) compare layers
without an option and never empty one.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import apportion, num_kept, prunable, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores


def magnitude(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    layers: Literal["global", "uniform"] = "global",
    score: Literal["magnitude", "lamp"] = "magnitude",
) -> Scores:
    """Return the absolute value of each weight at initialization, or its LAMP score.

    Options:
        layers: all layers compete (`global`), or each layer keeps its largest weights at the same
            density (`uniform`).
        score: the absolute value (`magnitude`), or the square divided by the sum of the squares
            that are not smaller in the layer (`lamp`).

    Raises UserError for LAMP scores within each layer, which change nothing.
    """
    if score == "lamp" and layers == "uniform":
        raise UserError(
            "score = 'lamp' has no effect with layers = 'uniform'; leave one of them out"
        )
    weights = prunable(net)
    # pruning in rounds would give the same mask, because these scores never change
    values = {name: weight.detach().abs() for name, weight in weights.items()}
    if score == "lamp":
        values = {name: lamp(value) for name, value in values.items()}
    if layers == "global":
        return Scores(values)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    kept_count = num_kept(density, total(weights))
    even = apportion(sizes, dict.fromkeys(sizes, density), kept_count, seed=task.seed)
    return Scores(values, even)


def lamp(weight: Tensor) -> Tensor:
    """Return w^2 over the sum of the squares that are not smaller, in float64 (equation 4).

    The largest entry has score 1, entries of equal size have equal scores, and zeros have 0.
    """
    squares = weight.detach().double().flatten().square()
    descending, order = squares.sort(descending=True)
    sums = descending.cumsum(0)
    # the last entry of each group of equal ones has the sum of the whole group
    last = torch.searchsorted(-descending, -descending, right=True) - 1
    scores = torch.empty_like(squares)
    # the sum is 0 only if all entries are
    scores[order] = descending / sums[last].clamp(min=torch.finfo(squares.dtype).tiny)
    return scores.view(weight.shape)

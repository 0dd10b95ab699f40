"""Magnitude at initialization: keep the largest weights; no data are used.

Paper: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015.

The paper prunes after training; this is the baseline of the studies of pruning at initialization.
By default all layers compete. Under Kaiming initialization wide layers have small weights and are
pruned first, down to layer collapse; with `uniform`, weights compete within each layer.
"""

from typing import Literal

from torch import nn

from paibench.methods.core.mask import apportion, num_kept, prunable, total
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores


def magnitude(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    layers: Literal["global", "uniform"] = "global",
) -> Scores:
    """Return the absolute value of each weight at initialization.

    Options:
        layers: all layers compete (`global`), or each layer keeps its largest weights at the same
            density (`uniform`).
    """
    weights = prunable(net)
    # pruning in rounds would give the same mask, because these scores never change
    values = {name: weight.detach().abs() for name, weight in weights.items()}
    if layers == "global":
        return Scores(values)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    kept_count = num_kept(density, total(weights))
    even = apportion(sizes, dict.fromkeys(sizes, density), kept_count, seed=task.seed)
    return Scores(values, even)

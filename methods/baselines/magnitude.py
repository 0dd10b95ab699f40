"""Magnitude at initialization: the largest weights stay; data are not needed.

Paper: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015.

The default compares weights over all layers, as the studies of pruning at initialization do. Under
Kaiming initialization wide layers have small weights and go first, down to layer collapse;
`uniform` compares within each layer instead.
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
    """The absolute value of each weight at initialization.

    Options:
        layers: whether weights compete over all layers (`global`) or each layer keeps its
            largest at the same density (`uniform`).
    """
    weights = prunable(net)
    values = {name: weight.detach().abs() for name, weight in weights.items()}
    if layers == "global":
        return Scores(values)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    densities = dict.fromkeys(sizes, density)
    return Scores(values, apportion(sizes, densities, num_kept(density, total(weights))))

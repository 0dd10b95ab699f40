"""Random pruning: weights stay by lot, over the whole network or with fixed shares per layer.

Paper: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020.

`global` (the default, and the floor of the leaderboard) draws over all layers at once. The other
readings fix the density of each layer first: the same everywhere (`uniform`), Erdos-Renyi over
the channels (`er`) or over all sizes of the kernel (`erk`), or the same number of weights in each
layer (`balanced`). What a saturated layer cannot take goes to the others, in `balanced` too, whose
source leaves the network sparser than asked instead.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from paibench.methods.core.mask import apportion, num_kept, prunable, total, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores


def random(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    layers: Literal["global", "uniform", "erk", "er", "balanced"] = "global",
    power: float = 1.0,
) -> Scores:
    """Uniform random scores, which need no data.

    Options:
        layers: how the kept weights are shared out: by lot over all layers (`global`), at one
            density (`uniform`), as Erdos-Renyi with (`erk`) or without (`er`) the kernel's
            size, or in equal numbers (`balanced`); the total is exact in each.
        power: exponent on the Erdos-Renyi ratio of `er` and `erk`, from 0 (as `uniform`) to 8.

    Raises UserError when `power` is out of range or given where it has no effect.
    """
    if not 0 <= power <= 8:
        raise UserError(f"power = {power!r} is out of range; give a number from 0 to 8")
    if power != 1 and layers not in ("er", "erk"):
        raise UserError(f"power has no effect with layers = {layers!r}; use it with er or erk")
    weights = prunable(net)
    # float64, so that no two of millions of weights tie
    lot = torch.rand(total(weights), generator=task.generator, dtype=torch.float64)
    values = unflatten(lot.to(next(iter(weights.values())).device), weights)
    if layers == "global":
        return Scores(values)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    ratios = {name: _ratio(weight.shape, layers, power) for name, weight in weights.items()}
    kept = num_kept(density, total(weights))
    return Scores(values, apportion(sizes, fill(sizes, ratios, kept), kept))


def _ratio(shape: torch.Size, layers: str, power: float) -> float:
    """The density of a layer relative to the others."""
    if layers == "uniform":
        return 1.0
    if layers == "balanced":
        return 1 / shape.numel()
    sides = shape[:2] if layers == "er" else shape
    return float((sum(sides) / math.prod(sides)) ** power)


def fill(sizes: Mapping[str, int], ratios: Mapping[str, float], kept: int) -> dict[str, float]:
    """The densities min(1, e * ratio) that keep `kept` weights, for the one e that does.

    Solved again each time a layer is full, until no other exceeds density 1.
    """
    densities = dict.fromkeys(sizes, 1.0)
    open_layers = list(sizes)
    while open_layers:
        left = kept - sum(sizes[name] for name in sizes if name not in open_layers)
        scale = left / sum(ratios[name] * sizes[name] for name in open_layers)
        over = [name for name in open_layers if scale * ratios[name] >= 1]
        if not over:
            return densities | {name: scale * ratios[name] for name in open_layers}
        open_layers = [name for name in open_layers if name not in over]
    return densities

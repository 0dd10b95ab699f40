"""Random pruning: keep weights uniformly at random, over all layers or at a density per layer.

Paper: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020.

`global` (the default, and the lower bound of the leaderboard) draws over all layers at once. The
other readings first fix the density of each layer: the same everywhere (`uniform`), Erdos-Renyi
over the two channel counts (`er`) or over all dimensions of the kernel (`erk`; section 3 of the
paper), or the same number of weights in each layer (`balanced`). A layer that would exceed density
1 is kept whole and the others share the rest. The source of `balanced` leaves the network sparser
than requested instead.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

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
    power: Annotated[float, "[0, 8]"] = 1.0,
) -> Scores:
    """Return uniform random scores; no data are used.

    Options:
        layers: how layers share the kept weights: at random over all layers (`global`), at one
            density (`uniform`), as Erdos-Renyi with (`erk`) or without (`er`) the dimensions of
            the kernel, or in equal numbers (`balanced`); the total is always exact.
        power: the exponent on the Erdos-Renyi ratio of `er` and `erk`, from 0 (as `uniform`) to 8.

    Raises UserError if `power` is out of range or has no effect.
    """
    if not 0 <= power <= 8:
        raise UserError(f"power = {power!r} is out of range; give a number from 0 to 8")
    if power != 1 and layers not in ("er", "erk"):
        raise UserError(f"power has no effect with layers = {layers!r}; use it with er or erk")
    weights = prunable(net)
    # float64, so that no two of millions of weights tie
    flat = torch.rand(total(weights), generator=task.generator, dtype=torch.float64)
    values = unflatten(flat.to(next(iter(weights.values())).device), weights)
    # as in Synaptic-Flow: the densities of layers differ by chance
    if layers == "global":
        return Scores(values)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    ratios = {name: _ratio(weight.shape, layers, power) for name, weight in weights.items()}
    kept_count = num_kept(density, total(weights))
    densities = fill(sizes, ratios, kept_count)
    return Scores(values, apportion(sizes, densities, kept_count, seed=task.seed))


def _ratio(shape: torch.Size, layers: str, power: float) -> float:
    """Return the density of a layer relative to the others."""
    if layers == "uniform":
        return 1.0
    if layers == "balanced":
        return 1 / shape.numel()
    # both readings agree for linear layers, which have no kernel
    sides = shape[:2] if layers == "er" else shape
    return float((sum(sides) / math.prod(sides)) ** power)


def fill(
    sizes: Mapping[str, int], ratios: Mapping[str, float], kept_count: int
) -> dict[str, float]:
    """Return the densities min(1, e * ratio), with the e for which they keep `kept_count` weights.

    The equation is solved again each time a layer is full, until no other exceeds density 1.
    """
    densities = dict.fromkeys(sizes, 1.0)
    open_layers = list(sizes)
    while open_layers:
        remaining = kept_count - sum(sizes[name] for name in sizes if name not in open_layers)
        scale = remaining / sum(ratios[name] * sizes[name] for name in open_layers)
        # capping densities at 1 only once would keep too few weights in total
        over = [name for name in open_layers if scale * ratios[name] >= 1]
        if not over:
            return densities | {name: scale * ratios[name] for name in open_layers}
        open_layers = [name for name in open_layers if name not in over]
    return densities

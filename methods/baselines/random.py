"""Random pruning: keep weights uniformly at random, over all layers or at a density per layer.

Paper: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020.

`global` (the default, and a lower bound of the leaderboard) draws over all layers at once. The
other readings first fix the number of weights of each layer; `quotas.py` has their rules and
sources. Quotas alone reach much: Liu et al. ("The Unreasonable Effectiveness of Random Pruning",
ICLR 2022) show it for `erk`, Su et al. (NeurIPS 2020) for Smart-Ratio.
"""

from typing import Annotated, Literal

import torch
from torch import nn

from paibench.methods.baselines.quotas import Layers, quotas
from paibench.methods.core.mask import num_kept, prunable, total, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores


def random(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    layers: Literal["global"] | Layers = "global",
    power: Annotated[float, "[0, 8]"] = 1.0,
) -> Scores:
    """Return uniform random scores; no data are used.

    Options:
        layers: how layers share the kept weights: at random over all layers (`global`), at one
            density (`uniform`), as Erdos-Renyi with (`erk`) or without (`er`) the dimensions of
            the kernel, in equal numbers (`balanced`), at one density except for the ends
            (`uniform_plus`), or by ideal gas quotas (`igq`) or Smart-Ratio (`smart_ratio` as for
            ResNets, `smart_ratio_vgg`); the total is always exact.
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
    kept_count = num_kept(density, total(weights))
    return Scores(values, quotas(weights, layers, kept_count, power=power, seed=task.seed))

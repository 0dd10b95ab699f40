"""Layer quotas: how many weights each layer keeps, from the shapes of the layers alone.

- `uniform`: the same density everywhere.
- `er`, `erk`: Erdos-Renyi over the two channel counts, or over all dimensions of the kernel (Evci
  et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, section 3).
- `balanced`: the same number of weights in each layer (Gadhikar et al., ICML 2023).
- `uniform_plus`: the first layer is kept if it is a convolution, the last one has a density of at
  least 0.2, and all others have the same density (Gale et al., "The State of Sparsity in Deep
  Neural Networks", 2019).
- `igq`, ideal gas quotas: density 1 / (F * size + 1) (Vysogorets & Kempe, "Connectivity Matters:
  Neural Network Pruning Through the Lens of Effective Sparsity", JMLR 2023).
- `smart_ratio`: density ~ k^2 + k for the k-th layer from the end, or (k^2 + k) / l^2 for the l-th
  layer from the start (`smart_ratio_vgg`), and 0.3 in a linear last layer (Su et al.,
  "Sanity-Checking Pruning Methods: Random Tickets can Win the Jackpot", NeurIPS 2020).

A layer that would exceed density 1 is kept whole and the others share the rest; with Smart-Ratio
the layers behind it get what is left over, in turn, as in the authors' code. The order of layers is
that of the network's modules.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from torch import Tensor

from paibench.methods.core.mask import apportion
from paibench.methods.core.registry import UserError

Layers = Literal[
    "uniform", "erk", "er", "balanced", "uniform_plus", "igq", "smart_ratio", "smart_ratio_vgg"
]
LAST = {"uniform_plus": 0.2, "smart_ratio": 0.3, "smart_ratio_vgg": 0.3}
"""The density of the last layer: the least of `uniform_plus`, and that of Smart-Ratio."""


def quotas(
    weights: Mapping[str, Tensor],
    layers: Layers,
    kept_count: int,
    *,
    power: float = 1.0,
    seed: int = 0,
) -> dict[str, int]:
    """Return the number of weights that each layer keeps; they add up to `kept_count`.

    `power` is the exponent on the ratio of `er` and `erk`. Where layers have equal claims to a last
    weight, a lot decides, which depends on the seed. Raises UserError if the layers that a rule
    keeps have more than `kept_count` weights.
    """
    sizes = {name: weight.numel() for name, weight in weights.items()}
    if layers == "igq":
        densities = _ideal_gas(sizes, kept_count)
    elif layers == "uniform_plus":
        densities = _uniform_plus(weights, sizes, kept_count)
    elif layers in ("smart_ratio", "smart_ratio_vgg"):
        densities = _smart_ratio(weights, sizes, kept_count, layers)
    else:
        ratios = {name: _ratio(weight.shape, layers, power) for name, weight in weights.items()}
        densities = fill(sizes, ratios, kept_count)
    return apportion(sizes, densities, kept_count, seed=seed)


def _ratio(shape: tuple[int, ...], layers: str, power: float) -> float:
    """Return the density of a layer relative to the others."""
    if layers == "uniform":
        return 1.0
    if layers == "balanced":
        return 1 / math.prod(shape)
    # both readings agree for linear layers, which have no kernel
    sides = shape[:2] if layers == "er" else shape
    return float((sum(sides) / math.prod(sides)) ** power)


def fill(
    sizes: Mapping[str, int], ratios: Mapping[str, float], kept_count: float
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


def _ideal_gas(sizes: Mapping[str, int], kept_count: int) -> dict[str, float]:
    """Return the densities 1 / (F * size + 1), with the F for which they keep `kept_count`."""

    def densities(force: float) -> dict[str, float]:
        return {name: 1 / (force * size + 1) for name, size in sizes.items()}

    # the logarithm of F, because it spans many orders of magnitude
    low, high = -100.0, 100.0
    for _ in range(200):
        middle = (low + high) / 2
        kept = sum(density * sizes[name] for name, density in densities(math.exp(middle)).items())
        low, high = (middle, high) if kept > kept_count else (low, middle)
    return densities(math.exp(high))


def _uniform_plus(
    weights: Mapping[str, Tensor], sizes: Mapping[str, int], kept_count: int
) -> dict[str, float]:
    names = list(sizes)
    first, last = names[0], names[-1]
    fixed: dict[str, float] = {first: 1.0} if weights[first].dim() > 2 else {}
    density = _shared(sizes, fixed, kept_count, "uniform_plus")
    if last not in fixed and density < LAST["uniform_plus"]:
        fixed[last] = LAST["uniform_plus"]
        density = _shared(sizes, fixed, kept_count, "uniform_plus")
    return dict.fromkeys(sizes, density) | fixed


def _smart_ratio(
    weights: Mapping[str, Tensor], sizes: Mapping[str, int], kept_count: int, layers: str
) -> dict[str, float]:
    *_, last = sizes
    fixed = {last: LAST[layers]} if weights[last].dim() == 2 and len(sizes) > 1 else {}
    _shared(sizes, fixed, kept_count, layers)  # refuses too few weights
    rest = [name for name in sizes if name not in fixed]
    ratios = {}
    for place, name in enumerate(rest, start=1):
        k = len(sizes) - place + 1
        ratios[name] = (k * k + k) / (place**2 if layers == "smart_ratio_vgg" else 1)
    free = kept_count - sum(sizes[name] * density for name, density in fixed.items())
    scale = free / sum(ratios[name] * sizes[name] for name in rest)
    densities = {name: scale * ratios[name] for name in rest} | fixed
    # what does not fit into a layer goes to the next
    for name, following in pairwise(densities):
        surplus = max(densities[name] - 1, 0) * sizes[name]
        densities[name] -= surplus / sizes[name]
        densities[following] += surplus / sizes[following]
    return densities


def _shared(
    sizes: Mapping[str, int], fixed: Mapping[str, float], kept_count: int, layers: str
) -> float:
    """Return the density of the layers that are not fixed."""
    held = sum(sizes[name] * density for name, density in fixed.items())
    rest = sum(size for name, size in sizes.items() if name not in fixed)
    if held > kept_count or (rest == 0 and held < kept_count):
        raise UserError(
            f"{layers} fixes {held:.0f} weights of {' and '.join(fixed)}, but the density keeps "
            f"{kept_count}; give another density, or other layers"
        )
    return (kept_count - held) / rest if rest else 1.0

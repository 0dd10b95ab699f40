"""Build a network from plain values: a factory, a shape, options, an initialization and a seed."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from paibench.methods.core.random_streams import hashed
from paibench.models.core.init import initialize
from paibench.models.core.layers import Shape

Option = bool | int | float | str


def build(
    factory: Callable[..., nn.Module],
    shape: Shape,
    classes: int,
    *,
    options: Mapping[str, Option],
    init: str,
    seed: int,
) -> nn.Module:
    """Return `factory(shape, classes, **options)`, initialized, on the CPU, in train mode.

    Only the seed decides the numbers in it; the global random state does not change.
    Raises ValueError for an unknown initialization and whatever the factory raises.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(hashed("construct", seed))
        net = factory(shape, classes, **options)
    # A separate stream, so that random numbers of the constructor do not change the weights.
    initialize(net, init, torch.Generator().manual_seed(hashed("initialize", seed)))
    return net

"""Multiply-adds by layer: what a mask can save."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from paibench.methods.core.mask import input_projections, prunable
from paibench.models.core.layers import Shape


@torch.no_grad()
def multiply_adds(net: nn.Module, shape: Shape) -> dict[str, int]:
    """Return the multiply-adds for one image, by the name of each convolution or linear weight.

    Their sum is the dense cost; weighted by the density of each layer it is the sparse cost.
    A copy of the network is run once, in eval mode, on one zero image of `shape`. A weight counts
    once for each position at which it is applied. Biases, norms and activations do not count, and
    of attention only the linear layers count (`nn.MultiheadAttention` as self-attention), not the
    products of queries, keys and values. A layer that is never called as a module counts 0.
    """
    # torch's FlopCounterMode gives equal counts for convolutions and linear layers, but counts by
    # module: it cannot tell the projections of attention apart, nor from the products between them.
    net = copy.deepcopy(net).eval()
    parameters = prunable(net)
    names = {id(weight): name for name, weight in parameters.items()}
    counts = dict.fromkeys(parameters, 0)

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        for weight, positions in _applied(module, inputs, output):
            counts[names[id(weight)]] += weight.numel() * positions

    for module in net.modules():
        if isinstance(module, _ConvNd | nn.Linear | nn.MultiheadAttention):
            module.register_forward_hook(hook)
    net(torch.zeros(1, *shape, device=next(net.parameters()).device))
    return counts


def _applied(
    module: nn.Module, inputs: tuple[Tensor, ...], output: Any
) -> list[tuple[Tensor, int]]:
    """Return the weights that one call of a module applied, with their numbers of positions."""
    if isinstance(module, nn.MultiheadAttention):
        # Its output projection is applied without being called, so it is counted here.
        positions = output[0].numel() // module.embed_dim
        return [(w, positions) for w in (*input_projections(module), module.out_proj.weight)]
    assert isinstance(module, _ConvNd | nn.Linear)
    # The first axis of a weight: output units, but input channels if transposed.
    units = inputs[0] if isinstance(module, _ConvTransposeNd) else output
    return [(module.weight, units.numel() // module.weight.shape[0])]

"""Effective density: the density of the weights that lie on a path from an input to an output.

A kept weight that no input reaches, or that reaches no output, has no effect. One forward and one
backward pass find all of these: an input of ones passes through the network with its mask in place
of its weights, and before and after each layer every value is reduced to reached (above 0) or not.
Counts of paths occur only within a layer, so that they cannot overflow in deep networks.
"""

import re
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from paibench.methods.core.mask import COVERED, Mask, prunable

_UNIT = 2.0**-10  # a reached value between layers; small, so that sums stay below ReLU6's limit
_PASSED = (_BatchNorm, nn.PReLU, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.Hardsigmoid)
_POOLS = {nn.MaxPool1d: F.avg_pool1d, nn.MaxPool2d: F.avg_pool2d, nn.MaxPool3d: F.avg_pool3d}
_MATRICES = ("Addmm", "Convolution", "Mm")
# Operations in which an output is reached if and only if one of its inputs is.
_THROUGH = re.compile(
    "AccumulateGrad|AdaptiveAvgPool2D|AdaptiveAvgPool3D|Add|Alias|AvgPool2D|AvgPool3D|Cat|Clone|"
    "ConstantPadNd|Elu|Expand|Gelu|Hardtanh|LeakyRelu|Mean|Permute|ReflectionPad2D|Relu|Repeat|"
    "ReplicationPad2D|ReshapeAlias|Select|Silu|Slice|Split|Squeeze|Stack|Sum|T|Tanh|Transpose|"
    "Unbind|UnsafeView|Unsqueeze|UpsampleNearest2D|View|_Arrive|_Leave"
)


def effective(net: nn.Module, mask: Mask, shape: tuple[int, ...]) -> Mask | None:
    """Return the part of `mask` that lies on a path from an input [*shape] to an output.

    Only inputs are sources; biases and the shifts of norms are not. Every path passes through
    batch norms and element-wise activations, whatever their parameters, and through each entry of
    the window of a max-pool. Returns None if the network has an operation for which paths are
    not defined by these rules: attention, other norms, gates, or any operation not listed here.
    """
    copy = deepcopy(net).float().eval()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
        weights = prunable(copy)
        for name, weight in weights.items():
            weight.copy_(mask[name])
    for weight in weights.values():
        weight.requires_grad_()
    _hook(copy)
    # two inputs, because a batch norm without running statistics refuses a batch of one
    outputs = copy(torch.ones(2, *shape, device=next(iter(weights.values())).device))
    if not isinstance(outputs, Tensor) or not _supported(outputs):
        return None
    parts = list(weights.values())
    gradients = torch.autograd.grad(outputs.sum(), parts, materialize_grads=True)
    return {name: mask[name] & (g > 0.5) for name, g in zip(weights, gradients, strict=True)}


def _hook(net: nn.Module) -> None:
    """Hook the layers of `net` to count paths, and all other known modules to pass them on."""
    for module in net.modules():
        if isinstance(module, COVERED):
            module.register_forward_pre_hook(lambda _, args: (_arrive(args[0]), *args[1:]))
            module.register_forward_hook(lambda _, args, out: _leave(out))
        elif isinstance(module, _PASSED):
            module.register_forward_hook(lambda _, args, out: args[0])
        elif type(module) in _POOLS and module.dilation == 1 and not module.return_indices:
            module.register_forward_hook(_average)


def _average(pool: Any, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
    """Replace a max-pool by an average over the same windows: it passes on every entry."""
    average = _POOLS[type(pool)]
    return average(args[0], pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)


class _Arrive(torch.autograd.Function):
    """The input of a layer: 1 if reached; the backward pass returns counts of paths."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return (values > 0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *counts: Tensor) -> Tensor:
        return (counts[0] > 0.5).to(counts[0].dtype)


class _Leave(torch.autograd.Function):
    """The output of a layer: counts of paths, integers up to rounding; backward, 1 if reached."""

    @staticmethod
    def forward(ctx: Any, counts: Tensor) -> Tensor:
        return (counts > 0.5).to(counts.dtype) * _UNIT

    @staticmethod
    def backward(ctx: Any, *values: Tensor) -> Tensor:
        return (values[0] > 0).to(values[0].dtype)


def _arrive(values: Tensor) -> Tensor:
    return _Arrive.apply(values)  # type: ignore[no-any-return]


def _leave(counts: Tensor) -> Tensor:
    return _Leave.apply(counts)  # type: ignore[no-any-return]


def _supported(outputs: Tensor) -> bool:
    """Return whether all operations are known, and all matrix products are in hooked layers."""
    visited = {outputs.grad_fn}
    queue = [outputs.grad_fn]
    matrices = counted = 0
    while queue:
        node = queue.pop()
        if node is None:
            continue
        operation = node.name().rpartition("::")[2].partition("Backward")[0]
        matrices += operation in _MATRICES
        counted += operation == "_Leave"
        if operation not in _MATRICES and not _THROUGH.fullmatch(operation):
            return False
        inputs = {function for function, _ in node.next_functions} - visited
        visited |= inputs
        queue.extend(inputs)
    # a product without its hooks is one that a module computed by itself, such as attention
    return matrices == counted

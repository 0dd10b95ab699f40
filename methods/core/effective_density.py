"""Effective density: the kept weights that lie on a path from an input to an output.

A weight that no input reaches, or that reaches no output, is kept to no effect. One forward and
one backward pass in boolean arithmetic find them all: an input of ones goes through the masks in
the place of weights, and at each layer what arrives and what leaves counts as reached or not.
The numbers within a layer are counts of paths, so that no network is too deep for them.
"""

import re
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from paibench.methods.core.mask import COVERED, Mask, prunable

_UNIT = 2.0**-10  # a reached value between layers: thousands add up before ReLU6 cuts them off
_PASSED = (_BatchNorm, nn.PReLU, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.Hardsigmoid)
_POOLS = {nn.MaxPool1d: F.avg_pool1d, nn.MaxPool2d: F.avg_pool2d, nn.MaxPool3d: F.avg_pool3d}
_MATRICES = ("Addmm", "Convolution", "Mm")
# Operations that a path goes through wherever a value does, and no path otherwise.
_THROUGH = re.compile(
    "AccumulateGrad|AdaptiveAvgPool2D|AdaptiveAvgPool3D|Add|Alias|AvgPool2D|AvgPool3D|Cat|Clone|"
    "ConstantPadNd|Elu|Expand|Gelu|Hardtanh|LeakyRelu|Mean|Permute|ReflectionPad2D|Relu|Repeat|"
    "ReplicationPad2D|ReshapeAlias|Select|Silu|Slice|Split|Squeeze|Stack|Sum|T|Tanh|Transpose|"
    "Unbind|UnsafeView|Unsqueeze|UpsampleNearest2D|View|_Arrive|_Leave"
)


def effective(net: nn.Module, mask: Mask, shape: tuple[int, ...]) -> Mask | None:
    """The part of `mask` that lies on a path from an input [*shape] to an output.

    Only inputs are sources: biases and the shifts of norms are not. Batch norms and element-wise
    activations let every path through, whatever their parameters; a max-pool lets through each
    entry of its window. None where paths are not defined by these rules or not known: attention,
    other norms, gates, any operation that is not listed here.
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
    # two inputs, because a batch norm without running statistics refuses one
    outputs = copy(torch.ones(2, *shape, device=next(iter(weights.values())).device))
    if not isinstance(outputs, Tensor) or not _understood(outputs):
        return None
    parts = list(weights.values())
    gradients = torch.autograd.grad(outputs.sum(), parts, materialize_grads=True)
    return {name: mask[name] & (g > 0.5) for name, g in zip(weights, gradients, strict=True)}


def _hook(net: nn.Module) -> None:
    """Make the layers of `net` count, and its norms, activations and max-pools pass all on."""
    for module in net.modules():
        if isinstance(module, COVERED):
            module.register_forward_pre_hook(lambda _, args: (_arrive(args[0]), *args[1:]))
            module.register_forward_hook(lambda _, args, out: _leave(out))
        elif isinstance(module, _PASSED):
            module.register_forward_hook(lambda _, args, out: args[0])
        elif type(module) in _POOLS and module.dilation == 1 and not module.return_indices:
            module.register_forward_hook(_average)


def _average(pool: Any, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
    """An average has the windows of the maximum, and gives each entry of a window its path."""
    average = _POOLS[type(pool)]
    return average(args[0], pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)


class _Arrive(torch.autograd.Function):
    """What enters a layer is 1 where it was reached; what comes back to it are counts."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return (values > 0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *counts: Tensor) -> Tensor:
        return (counts[0] > 0.5).to(counts[0].dtype)


class _Leave(torch.autograd.Function):
    """What a layer computes are counts, whole but for rounding; what comes back becomes 1."""

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


def _understood(outputs: Tensor) -> bool:
    """Whether known operations alone led here, and every matrix was multiplied by its module."""
    seen = {outputs.grad_fn}
    waiting = [outputs.grad_fn]
    matrices = counted = 0
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        operation = node.name().rpartition("::")[2].partition("Backward")[0]
        matrices += operation in _MATRICES
        counted += operation == "_Leave"
        if operation not in _MATRICES and not _THROUGH.fullmatch(operation):
            return False
        before = {function for function, _ in node.next_functions} - seen
        seen |= before
        waiting.extend(before)
    return matrices == counted

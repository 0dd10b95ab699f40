"""Whole channels: which ones a network can lose, and the smaller network without them."""

from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paibench.methods.core.mask import Mask, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.ticket import Channels
from paibench.methods.topology.graph import Graph, Step, graph_of


class Layer(NamedTuple):
    """The channels between two layers, which can be removed without a change of any other."""

    size: int
    weight: str
    """The weight whose rows are the channels."""
    scale: str
    """The scale of the batch norm of the channels."""
    next: tuple[tuple[str, int], ...]
    """The weights whose columns are the channels, and how many columns each channel has."""


def layers_of(net: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """Return the layers of a network whose channels can be removed, from the input on.

    These are the outputs of a convolution or linear layer with one batch norm that only other such
    layers use, also behind activations, pooling and flattening. Channels that are added to others,
    joined with them or in groups stay whole, and so do those of a weight that is used twice.
    """
    graph = graph_of(net, shape)
    scales: dict[int, list[str]] = {}
    for scale, group in graph.scales.items():
        scales.setdefault(group, []).append(scale)
    uses = [step.name for step in graph.steps if step.kind == "layer"]
    layers = []
    for group, names in scales.items():
        step = graph.producers.get(group)
        following = _next(graph, group)
        if step is None or step.kind != "layer" or step.groups > 1 or not following:
            continue
        weights = [step.name, *(name for name, _ in following)]
        if len(names) == 1 and all(uses.count(name) == 1 for name in weights):
            layers.append(Layer(graph.sizes[group], step.name, names[0], following))
    return layers


def _next(graph: Graph, group: int, columns: int = 1) -> tuple[tuple[str, int], ...]:
    """Return the layers that use a group of units, or nothing if anything else does."""
    if group == graph.output:
        return ()
    found: list[tuple[str, int]] = []
    for step in graph.steps:
        if group in step.inputs:
            further = _of_step(graph, step, columns)
            if not further:
                return ()
            found.extend(further)
    return tuple(found)


def _of_step(graph: Graph, step: Step, columns: int) -> tuple[tuple[str, int], ...]:
    if step.kind == "flatten":
        return _next(graph, step.output, columns * step.repeats)
    return ((step.name, columns),) if step.kind == "layer" and step.groups == 1 else ()


def channels_of(layers: list[Layer], scores: Mapping[str, Tensor]) -> Channels:
    """Return channels with these scores, by the name of the scale of their batch norm."""
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    start = 0
    for layer in layers:
        own = torch.arange(start, start + layer.size)
        rows[layer.weight] = own
        for name, repeats in layer.next:
            columns[name] = own.repeat_interleave(repeats)
        start += layer.size
    numbers = [torch.full((layer.size,), number) for number, layer in enumerate(layers)]
    values = torch.cat([scores[layer.scale].detach().cpu() for layer in layers])
    return Channels(values, torch.cat(numbers), rows, columns)


def smaller(net: nn.Module, mask: Mask, shape: tuple[int, ...]) -> nn.Module:
    """Return a copy of a network without the channels that a mask removes.

    A channel is removed if the mask keeps none of the weights that use it, so that its outputs for
    inputs [b, *shape] are those of the network with pruned weights of 0. Weights that are pruned
    within the channels that stay are 0. Raises UserError if no channel of a layer would stay.
    """
    copy = deepcopy(net)
    with torch.no_grad():
        for name, weight in prunable(copy).items():
            weight.mul_(mask[name])
    modules = {f"{name}.weight": module for name, module in copy.named_modules() if name}
    for layer in layers_of(net, shape):
        used = torch.zeros(layer.size, dtype=torch.bool)
        for name, repeats in layer.next:
            columns = mask[name].cpu().transpose(0, 1).flatten(1).any(1)
            used |= columns.view(layer.size, repeats).any(1)
        if not used.any():
            raise UserError(f"the mask keeps no channel of {layer.weight}")
        _cut(modules[layer.weight], used, 0)
        _cut(modules[layer.scale], used, 0)
        for name, repeats in layer.next:
            _cut(modules[name], used.repeat_interleave(repeats), 1)
    return copy


def _cut(module: nn.Module, kept: Tensor, side: int) -> None:
    """Remove rows (side 0) or columns (side 1) of a module, and correct its sizes."""
    for name, parameter in module.named_parameters(recurse=False):
        if side == 0 or name == "weight":
            index = kept.nonzero().view(-1).to(parameter.device)
            cut = nn.Parameter(parameter.detach().index_select(side, index))
            setattr(module, name, cut.requires_grad_(parameter.requires_grad))
    if isinstance(module, _BatchNorm):
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.dim():
                index = kept.nonzero().view(-1).to(buffer.device)
                setattr(module, name, buffer.index_select(0, index))
    sizes = (("num_features", "out_channels", "out_features"), ("in_channels", "in_features"))
    for size in sizes[side]:
        if hasattr(module, size):
            setattr(module, size, int(kept.sum()))

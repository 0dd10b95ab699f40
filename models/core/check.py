"""Whether a network can be pruned: every fault is one line that says what to choose instead."""

import contextlib
import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import COVERED, input_projections, prunable, total
from paibench.methods.core.registry import UserError
from paibench.models.core.layers import Shape
from paibench.models.core.macs import Use, traced

# At least this share of the parameters is prunable, and at most this share of the rows is unseen:
# a convolution without padding may drop a single row, such as the first one of LeNet-5 or NASNet.
_PRUNABLE, _UNSEEN = 0.5, 0.05
_REMEDY = "choose a network without weight standardisation, weight norm and other such functions"


def check(net: nn.Module, shape: Shape, *, allow_unprunable: bool = False) -> list[str]:
    """Return remarks about the network, which a record repeats.

    Raises UserError if masks do not hold, few parameters are prunable, or pixels are not seen.
    """
    if not allow_unprunable:
        check_share(net)
    check_masks_hold(net, shape)
    height, width = shape[1:]
    rows, columns = unseen(net, shape)
    if not (rows or columns):
        return []
    remark = f"see {rows} of {height} rows and {columns} of {width} columns of the images"
    if max(rows / height, columns / width) <= _UNSEEN:
        return [f"the network does not {remark}"]
    size = f"{height - rows}x{width - columns}"
    remedy = f"use images of {size}, or smaller patches (an option such as patch_size)"
    raise UserError(f"it would not {remark}; {remedy}")


def check_layers(net: nn.Module) -> None:
    """Raise UserError if a layer that should be prunable has no weights of its own.

    Weight norm, spectral norm, `torch.nn.utils.prune` and other parametrizations replace a weight
    by a function of other parameters.
    """
    parameters = {id(parameter) for parameter in net.parameters()}
    for name, module in net.named_modules():
        weights: list[Tensor] = []
        if isinstance(module, COVERED):
            weights = [module.weight]
        elif isinstance(module, nn.MultiheadAttention):
            weights = [*input_projections(module)]
        if any(id(weight) not in parameters for weight in weights):
            raise UserError(
                f"the weight of {_layer(name, module)} is no parameter of the network but computed "
                f"from others, so a mask would not apply to it; {_REMEDY}"
            )


def check_share(net: nn.Module) -> None:
    """Raise UserError if less than half of the parameters are prunable."""
    weights = prunable(net)
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    share = total(weights) / max(sum(sizes.values()), 1)
    if share < _PRUNABLE:
        others = sorted((n for n in sizes if n not in weights), key=lambda name: -sizes[name])
        largest = ", ".join(f"{name} ({sizes[name]:,})" for name in others[:3])
        raise UserError(
            f"only {share:.1%} of its {sum(sizes.values()):,} parameters are prunable; the largest "
            f"others are {largest}; choose another network, or set allow_unprunable=true"
        )


def check_masks_hold(net: nn.Module, shape: Shape) -> None:
    """Raise UserError if the network computes the weights that it uses.

    A copy with random weights, of which half are pruned, must use the pruned ones as 0, in
    training too.
    """
    net = copy.deepcopy(net)
    rng = torch.Generator().manual_seed(0)
    mask = {}
    with torch.no_grad():
        for name, weight in prunable(net).items():
            # the weights of the initialization may be 0 or all equal, which would hide a function
            drawn = torch.randn(weight.shape, generator=rng)
            weight.copy_(drawn / weight[0].numel() ** 0.5)
            mask[name] = (drawn.abs() < 0.6745).to(weight.device)  # the median
    used = traced(net.eval(), mask, torch.zeros(1, *shape))
    if not computed_fault(net, used):
        # batch norms need two images; an error here would come back in training, which tells more
        with contextlib.suppress(Exception):
            used = traced(net.train(), mask, torch.zeros(2, *shape))
    if fault := computed_fault(net, used):
        raise UserError(fault)


def computed_fault(net: nn.Module, used: Mapping[str, Use]) -> str | None:
    """Return the first layer that uses a pruned weight as something else than 0, in words."""
    for name, use in used.items():
        if use.computed:
            layer = name.rpartition(".")[0]
            return (
                f"{_layer(layer, net.get_submodule(layer))} computes the weights that it uses from "
                f"its parameter, so a mask would leave no zeros; {_REMEDY}"
            )
    return None


def unseen(net: nn.Module, shape: Shape) -> tuple[int, int]:
    """Return the numbers of rows and columns of the images on which no output depends.

    Patch embeddings and strided convolutions drop what their windows do not reach. Rows and columns
    without any gradient are only candidates, because activations and maxima can hide a gradient.
    NaN passes through all of them, even through weights of 0.
    """
    net = _without_zeros(net)
    rng = torch.Generator().manual_seed(0)
    device = next(net.parameters()).device
    images = torch.rand(2, *shape, generator=rng).to(device).requires_grad_()
    # a network may change its input in place
    outputs = net(images * 1)
    (gradients,) = torch.autograd.grad(outputs.sum(), images)
    seen = (gradients != 0).any(0).any(0)
    rows, columns = ~seen.any(1), ~seen.any(0)
    if not (rows.any() or columns.any()):
        return 0, 0
    with torch.no_grad():
        images[:, :, rows] = float("nan")
        images[:, :, :, columns] = float("nan")
        if net(images * 1).isnan().any():
            return 0, 0
    return int(rows.sum()), int(columns.sum())


def _without_zeros(net: nn.Module) -> nn.Module:
    """Return a copy in eval mode in which no branch is switched off by parameters that are 0."""
    net = copy.deepcopy(net).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    return net


def _layer(name: str, module: nn.Module) -> str:
    return f"{name or 'the network'} ({type(module).__name__})"

"""The named initializations of a network."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import did_you_mean


def _kaiming_normal(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def _kaiming_uniform(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)


def _signed_constant(weight: Tensor, generator: torch.Generator) -> None:
    heads = torch.randint(2, weight.shape, generator=generator, dtype=torch.bool)
    # the standard deviation of kaiming_normal, as in the code of edge-popup
    magnitude = math.sqrt(2 / weight[0].numel())
    weight.fill_(magnitude)[~heads] = -magnitude


def _xavier_normal(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.xavier_normal_(weight, generator=generator)


_DRAWS: dict[str, Callable[[Tensor, torch.Generator], None]] = {
    "kaiming_normal": _kaiming_normal,
    "kaiming_uniform": _kaiming_uniform,
    "signed_constant": _signed_constant,
    "xavier_normal": _xavier_normal,
}

SCHEMES: tuple[str, ...] = (*_DRAWS, "native")


def fresh(net: nn.Module, scheme: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Return new weights for every convolution and linear layer, by parameter name.

    The network does not change. The tensors are on the CPU, whatever device the network is on.
    With fan_in the inputs of one output unit (channels / groups * kernel area):

    - `kaiming_normal`: normal, variance 2 / fan_in (He et al. 2015);
    - `kaiming_uniform`: uniform within sqrt(6 / fan_in), the same variance;
    - `signed_constant`: +-sqrt(2 / fan_in), each sign by a fair coin (Ramanujan et al. 2020);
    - `xavier_normal`: normal, variance 2 / (fan_in + fan_out), where fan_out counts all output
      channels, grouped or not, as in `torch.nn.init` (Glorot and Bengio 2010).

    Raises ValueError for an unknown scheme, and for `native`, which only a constructor can draw.
    """
    _check(scheme)
    if scheme == "native":
        raise ValueError(
            "init 'native' is what the constructor draws: build the network again with another seed"
        )
    weights = {}
    for name, weight in prunable(net).items():
        # Always contiguous, so that the memory format of the network cannot change the draw.
        weights[name] = torch.empty(weight.shape, dtype=weight.dtype)
        _DRAWS[scheme](weights[name], generator)
    return weights


@torch.no_grad()
def initialize(net: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Initialize all weights in place from the generator; see `fresh` for the schemes.

    Biases become 0; norms start at scale 1, shift 0 and empty running statistics; parameters of
    other kinds (position embeddings, layer scales) stay as constructed. `native` leaves everything
    as constructed. Raises ValueError for an unknown scheme.
    """
    _check(scheme)
    if scheme == "native":
        return
    parameters = prunable(net)
    for name, weight in fresh(net, scheme, generator).items():
        parameters[name].copy_(weight)
    for module in net.modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_bias is not None:
            # torch keeps these in the attention itself; its output projection is a linear layer
            module.in_proj_bias.zero_()
        elif isinstance(module, _ConvNd | nn.Linear) and module.bias is not None:
            module.bias.zero_()
        elif isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
            _reset(module)


def _reset(norm: nn.Module) -> None:
    # norms have no other parameters than a scale and a shift
    for name, parameter in norm.named_parameters(recurse=False):
        parameter.fill_(1 if name == "weight" else 0)
    if isinstance(norm, _NormBase):
        norm.reset_running_stats()


def _check(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"unknown init {scheme[:80]!r}; {did_you_mean(scheme, SCHEMES)}")

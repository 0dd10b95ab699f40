"""The network of a spec, built for the shape and the classes of its data, and checked once."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paibench.benchmark.spec import Named, Spec
from paibench.benchmark.steps.blame import attributing_errors, fault
from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError, get
from paibench.methods.core.text import printable
from paibench.models.core.build import build
from paibench.models.core.check import check, check_layers

# The checks look at the structure alone, so a process does them once for all seeds and runs.
_REMARKS: dict[tuple[Named, tuple[int, int, int], int], list[str]] = {}
_LONGEST_NAME = 200  # letters


class InputShape(Protocol):
    """Channels, height and width of the inputs, and the number of classes."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def classes(self) -> int: ...


def make_network(spec: Spec, data: InputShape, seed: int) -> nn.Module:
    """Return the spec's network for these data, initialized with the seed.

    Raises UserError if it cannot be built, or cannot be pruned or see its images, and PluginError
    if a third party's model is at fault.
    """
    options = {key: value for key, value in spec.model.options.items() if value is not None}
    allowed = bool(options.pop("allow_unprunable", False))
    try:
        with attributing_errors(spec, "models"):
            make = _checked(spec, _factory(spec.model.name))
            net = build(make, data.shape, data.classes, options=options, init=spec.init, seed=seed)
            if (setting := _setting(spec, data)) not in _REMARKS:
                _refuse(spec, _flaws_of_outputs(net, data))
                _REMARKS[setting] = check(net, data.shape, allow_unprunable=allowed)
    except ValueError as error:
        reason = str(error).removeprefix(f"model {spec.model.name}: ")
        raise UserError(f"model {spec.model}: {reason}") from error
    return net


def remarks(spec: Spec, data: InputShape) -> list[str]:
    """Return what a record should say about a network that `make_network` has made."""
    return _REMARKS[_setting(spec, data)]


def _setting(spec: Spec, data: InputShape) -> tuple[Named, tuple[int, int, int], int]:
    return spec.model, data.shape, data.classes


def _factory(name: str) -> Callable[..., nn.Module]:
    if not name.startswith("timm:"):
        return cast(Callable[..., nn.Module], get(name, "models"))
    from paibench.models.timm_adapter import (
        timm_factory,
    )  # the import takes seconds, and few runs need it

    return timm_factory(name.removeprefix("timm:"))


# -- what a model must give ------------------------------------------------------------------------


def _checked(spec: Spec, make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return the factory with a check of its network before anything is done to it."""

    def checked(*arguments: Any, **options: Any) -> nn.Module:
        net = make(*arguments, **options)
        _refuse(spec, _flaws_of_parameters(net))
        return net

    return checked


def _refuse(spec: Spec, flaws: Iterator[str]) -> None:
    """Raise an error that names the model and the first flaw, if there is one."""
    if flaw := next(flaws, None):
        raise fault("models", spec.model.name, flaw)


def _flaws_of_parameters(net: object) -> Iterator[str]:
    if not isinstance(net, nn.Module):
        yield f"it gives {_what(net)}, needed an nn.Module"
        return
    for name, parameter in net.named_parameters():
        shown = printable(name)[:_LONGEST_NAME]
        if len(name) > _LONGEST_NAME or not name.isprintable():
            yield f"its parameter {shown!r} needs a printable name of at most 200 letters"
        if is_lazy(parameter):
            yield f"its parameter {shown!r} has no shape yet; use a module that is not lazy"
            return
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            yield (
                f"its parameter {shown!r} is {parameter.dtype} on {parameter.device}, "
                "needed torch.float32 on cpu"
            )
    check_layers(net)  # before its weights are counted and initialized
    weights = prunable(net)
    if not weights:
        yield "it has no prunable weights; use convolutions and linear layers of torch.nn"
    for name, weight in weights.items():
        if not weight.requires_grad:
            yield f"its parameter {name!r} must require gradients"


def _flaws_of_outputs(net: nn.Module, data: InputShape) -> Iterator[str]:
    """Yield what is wrong with the outputs of one forward pass of a copy, in eval mode."""
    inputs = torch.randn(2, *data.shape, generator=torch.Generator().manual_seed(0))
    # the pass may draw random numbers, which must not change those of the run
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        outputs: object = copy.deepcopy(net).eval()(inputs)
    needed = f"needed one tensor of shape (2, {data.classes})"
    if not isinstance(outputs, Tensor):
        yield f"its output is {_what(outputs)}, {needed}"
    elif tuple(outputs.shape) != (2, data.classes):
        yield f"its output for 2 images has the shape {tuple(outputs.shape)}, {needed}"
    elif not outputs.is_floating_point():
        yield f"its output has the type {outputs.dtype}, needed floating-point numbers"
    elif not bool(outputs.isfinite().all()):
        yield "its output at initialization is not finite"


def _what(thing: object) -> str:
    return "None" if thing is None else f"a {type(thing).__name__}"

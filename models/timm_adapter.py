"""Any network of timm as a model: `timm:NAME`, never pretrained, never downloaded."""

import inspect
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from paibench.methods.core.registry import did_you_mean
from paibench.models.core.layers import Shape

# Options that the adapter sets itself, or that are not plain values.
_RESERVED = frozenset({"cfg", "num_classes", "in_chans", "img_size", "device", "dtype"})


def timm_factory(name: str) -> Callable[..., nn.Module]:
    """Return the factory of `timm:NAME`: `factory(shape, classes, **options)`.

    Networks made for one image size get that of `shape`; options go to the network's constructor,
    such as `patch_size=4` for a vision transformer on small images. Raises ValueError if timm
    has no such network. The factory raises it if an option is not one of `accepted(name)` or if
    the network cannot be built for the shape.
    """
    _architecture(name)

    def factory(shape: Shape, classes: int, **options: bool | int | float | str) -> nn.Module:
        accepted_options = accepted(name)
        for option in options:
            if option not in accepted_options:
                raise ValueError(
                    f"timm:{name} has no option {option[:80]!r}; "
                    + did_you_mean(option, accepted_options)
                )
        try:
            return _create(name, shape, classes, options)
        # constructors of timm raise errors of many types
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            size = "x".join(map(str, shape))
            raise ValueError(
                f"timm:{name} cannot be built for images of {size} with options {options}: {reason}"
            ) from error

    return factory


def accepted(name: str) -> tuple[str, ...]:
    """Return the named options of the network's constructor, sorted; timm might ignore others.

    Raises ValueError if timm has no such network.
    """
    return tuple(sorted(_parameters(_architecture(name)) - _RESERVED))


@cache
def _architecture(name: str) -> type[nn.Module]:
    """Return the class of a network, from the annotation of its entry point or by building it."""
    names = timm.list_models()
    if name not in names:
        hint = did_you_mean(name, names, otherwise="see timm.list_models()")
        raise ValueError(f"timm has no network {name[:80]!r}; {hint}")
    annotation = inspect.signature(timm.model_entrypoint(name)).return_annotation
    if isinstance(annotation, type) and issubclass(annotation, nn.Module):
        return annotation
    return type(timm.create_model(name, pretrained=False))


def _parameters(architecture: type[nn.Module]) -> set[str]:
    """Return the named parameters of constructors, up the classes that pass on other arguments."""
    names: set[str] = set()
    for base in architecture.__mro__[: architecture.__mro__.index(nn.Module)]:
        parameters = inspect.signature(base).parameters.values()
        names.update(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names


def _create(
    name: str, shape: Shape, classes: int, options: dict[str, bool | int | float | str]
) -> nn.Module:
    channels, height, width = shape
    arguments: dict[str, Any] = {"num_classes": classes, "in_chans": channels, **options}
    if "img_size" in _parameters(_architecture(name)):
        arguments["img_size"] = height if height == width else (height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        # many networks of timm check the size of images only in a forward pass
        # in eval mode, so that running statistics stay at their initial values
        with torch.no_grad():
            logits = net.eval()(torch.zeros(1, *shape))
    if logits.shape != (1, classes):
        raise ValueError(f"its output has the shape {tuple(logits.shape)}, not (1, {classes})")
    return net.train()

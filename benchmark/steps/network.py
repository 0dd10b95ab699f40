"""The network of a spec, built for the shape and the classes of its data, and checked."""

from collections.abc import Callable
from typing import Protocol, cast

from torch import nn

from paibench.benchmark.spec import Named, Spec
from paibench.methods.core.registry import UserError, get
from paibench.models.core.build import build
from paibench.models.core.check import check

# The checks look at the structure alone, so a process does them once for all seeds and runs.
_REMARKS: dict[tuple[Named, tuple[int, int, int], int], list[str]] = {}


class InputShape(Protocol):
    """Channels, height and width of the inputs, and the number of classes."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def classes(self) -> int: ...


def make_network(spec: Spec, data: InputShape, seed: int) -> nn.Module:
    """Return the spec's network for these data, initialized with the seed.

    Raises UserError if it cannot be built, or cannot be pruned or see its images.
    """
    options = {key: value for key, value in spec.model.options.items() if value is not None}
    allowed = bool(options.pop("allow_unprunable", False))
    try:
        make = _factory(spec.model.name)
        net = build(make, data.shape, data.classes, options=options, init=spec.init, seed=seed)
        if (setting := _setting(spec, data)) not in _REMARKS:
            _REMARKS[setting] = check(net, data.shape, allow_unprunable=allowed)
        return net
    except ValueError as error:
        raise UserError(f"model {spec.model}: {error}") from error


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

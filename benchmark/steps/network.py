"""The network of a spec, built for the shape and the classes of its data."""

from collections.abc import Callable
from typing import Protocol, cast

from torch import nn

from paibench.benchmark.spec import Spec
from paibench.methods.core.registry import UserError, get
from paibench.models.core.build import build


class InputShape(Protocol):
    """Channels, height and width of the inputs, and the number of classes."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def classes(self) -> int: ...


def make_network(spec: Spec, data: InputShape, seed: int) -> nn.Module:
    """Return the spec's network for these data, initialized with the seed.

    Raises UserError if it cannot be built.
    """
    options = {key: value for key, value in spec.model.options.items() if value is not None}
    try:
        make = _factory(spec.model.name)
        return build(make, data.shape, data.classes, options=options, init=spec.init, seed=seed)
    except ValueError as error:
        raise UserError(f"model {spec.model}: {error}") from error


def _factory(name: str) -> Callable[..., nn.Module]:
    if not name.startswith("timm:"):
        return cast(Callable[..., nn.Module], get(name, "models"))
    from paibench.models.timm_adapter import (
        timm_factory,
    )  # the import takes seconds, and few runs need it

    return timm_factory(name.removeprefix("timm:"))

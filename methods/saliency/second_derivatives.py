"""Second derivatives of networks, for the methods that differentiate a gradient."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from paibench.methods.core.registry import UserError


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Let networks be differentiated twice.

    Raises UserError that names an operation of the network that has no second derivative.
    """
    try:
        # the only backend of attention that can be differentiated twice
        with sdpa_kernel(SDPBackend.MATH), TwiceDifferentiable():
            yield
    except RuntimeError as error:
        missing = re.search(r"derivative for (\S+?)(_backward)? is not implemented", str(error))
        if missing is None:
            raise
        raise _no_second_derivative(missing[1]) from error


class TwiceDifferentiable(TorchFunctionMode):
    """Gives hard sigmoids a second derivative, the only activations that torch has without one.

    Their values stay the same; their derivatives are those of a clamp, which are the same too.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the function returns."""
        name = getattr(func, "__name__", "")
        if name not in ("hardsigmoid", "hardsigmoid_"):
            return func(*args, **(kwargs or {}))
        arguments = {**dict(zip(("input", "inplace"), args, strict=False)), **(kwargs or {})}
        x = arguments["input"]
        slope = F.hardtanh(x + 3, 0, 6) / 6
        # torch rounds a sixth to float32, so that the value of the clamp can differ
        y = F.hardsigmoid(x.detach()) + (slope - slope.detach())
        return x.copy_(y) if name.endswith("_") or arguments.get("inplace") else y


def refuse_lost_derivatives(value: Tensor) -> None:
    """Raise UserError if a gradient that cannot be differentiated is a part of the value."""
    nodes, seen = [value.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        # torch would take the derivative as 0, and raises nothing
        if node.name() == "torch::autograd::Error":
            raise _no_second_derivative("a function that is marked @once_differentiable")
        seen.add(node)
        nodes += [child for child, _ in node.next_functions]


def _no_second_derivative(operation: str) -> UserError:
    return UserError(
        "the method needs the second derivative of each operation of the network, and torch has "
        f"none of {operation}; use another method"
    )

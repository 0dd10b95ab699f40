"""Rectifiers, such as ReLU: what passes through them, and what takes the place of their output."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from paibench.methods.saliency.positive import name_of

RECTIFIERS = {"relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu"} | {
    *("gelu", "silu", "mish", "hardswish", "hardtanh", "threshold"),
}


class Rectifiers(TorchFunctionMode):
    """Calls a function with the input of each rectifier; a result takes the place of its output."""

    def __init__(self, function: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self._function = function

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the function returns, or the replacement of a rectifier."""
        kwargs = kwargs or {}
        if name_of(func) not in RECTIFIERS:
            return func(*args, **kwargs)
        output = self._function(args[0] if args else kwargs["input"])
        return func(*args, **kwargs) if output is None else output

"""Looking on while a finder searches: what it passes through a network, and what it draws from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from paibench.methods.conformance.networks import SENTINEL


@dataclass
class Passed:
    """How many examples passed forward through a network or a copy of it, and back."""

    forward: int = 0
    backward: int = 0


@contextmanager
def count_examples(net: nn.Module) -> Iterator[Passed]:
    """Count the examples that pass through `net` and its copies; what is no data does not count."""
    passed = Passed()

    def see(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        count = _examples(inputs)
        passed.forward += count

        def back(_: Tensor) -> None:
            passed.backward += count

        if count and isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(back)  # type: ignore[no-untyped-call]

    handle = net.register_forward_hook(see)
    try:
        yield passed
    finally:
        handle.remove()


def _examples(inputs: tuple[Any, ...]) -> int:
    if not inputs or not isinstance(inputs[0], Tensor) or inputs[0].dim() != 4:
        return 0
    return int((inputs[0][:, 0, 0, 0] == SENTINEL).sum())


class RecordGenerators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The first seeds of the generators that were drawn from."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seeds: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note the generators of what draws, and go on."""
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            for each in (*args, *given.values()):
                if isinstance(each, torch.Generator):
                    self.seeds.add(each.initial_seed())
        return func(*args, **given)

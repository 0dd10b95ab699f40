"""Count the examples that a search passes through its network, beside what it says."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

_FREE = 0.1  # of the training examples: a graph is traced with a few inputs
_BEGIN, _END = "the search passed", "so its cost is higher than this record says"


class Passed:
    """A forward hook that counts the examples which pass through a network and its copies.

    It finds mistakes in counting, not intent: a method may remove hooks, or build another network.
    """

    def __init__(self, net: nn.Module) -> None:
        self.examples = 0
        net.register_forward_hook(self)

    def __call__(self, net: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Count the inputs of one forward pass."""
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() == 4:
            self.examples += len(inputs[0])

    def __deepcopy__(self, memo: object) -> Self:
        """Return this very counter, so that copies of the network count together."""
        return self

    def note(self, counted: int, train_examples: int) -> str | None:
        """Return what a record should say if many examples were not counted."""
        if self.examples - counted <= _FREE * train_examples:
            return None
        return f"{_BEGIN} {self.examples} examples forward and counted {counted}, {_END}"


def hides_cost(recorded: Sequence[str], repeated: Sequence[str]) -> bool:
    """Return whether the notes of a record lack such a line that those of its repetition have."""
    before, after = (any(note.startswith(_BEGIN) for note in each) for each in (recorded, repeated))
    return after and not before

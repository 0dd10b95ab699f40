"""Networks of a stranger, each with one fault; `sound` has none."""

import os
import sys
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Shape = tuple[int, int, int]


class _Net(nn.Module):
    """Two linear layers, and a change of their outputs."""

    def __init__(
        self, shape: Shape, classes: int, change: Callable[[Tensor], Any] = lambda outputs: outputs
    ) -> None:
        super().__init__()
        self.first = nn.Linear(prod(shape), 16)
        self.last = nn.Linear(16, classes)
        self.change = change

    def forward(self, inputs: Tensor) -> Any:
        return self.change(self.last(self.first(inputs.flatten(1)).relu()))


def sound(shape: Shape, classes: int) -> nn.Module:
    """A network as it should be."""
    return _Net(shape, classes)


def normed(shape: Shape, classes: int) -> nn.Module:
    """A network whose weights are computed from two others."""
    net = _Net(shape, classes)
    parametrizations.weight_norm(net.first)
    parametrizations.weight_norm(net.last)
    return net


def near_sighted(shape: Shape, classes: int) -> nn.Module:
    """A network that sees the left half of the images."""
    half = (*shape[:2], shape[2] // 2)
    return nn.Sequential(_Crop(half[2]), _Net(half, classes))


class _Crop(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[..., : self.width]


def none_at_all(shape: Shape, classes: int) -> Any:
    """Nothing."""
    return None


def words(shape: Shape, classes: int) -> Any:
    """A text."""
    return "a network"


def wide(shape: Shape, classes: int) -> nn.Module:
    """Three outputs too many."""
    return _Net(shape, classes + 3)


def flat(shape: Shape, classes: int) -> nn.Module:
    """One vector for all examples."""
    return _Net(shape, classes, lambda outputs: outputs.flatten())


def narrow_batch(shape: Shape, classes: int) -> nn.Module:
    """The outputs of the first example only."""
    return _Net(shape, classes, lambda outputs: outputs[:1])


def tuples(shape: Shape, classes: int) -> nn.Module:
    """Outputs in a tuple."""
    return _Net(shape, classes, lambda outputs: (outputs, outputs))


def dicts(shape: Shape, classes: int) -> nn.Module:
    """Outputs in a dictionary."""
    return _Net(shape, classes, lambda outputs: {"logits": outputs})


def whole_numbers(shape: Shape, classes: int) -> nn.Module:
    """Outputs that are 0 and 1."""
    return _Net(shape, classes, lambda outputs: (outputs > 0).long())


def endless(shape: Shape, classes: int) -> nn.Module:
    """Infinite outputs."""
    return _Net(shape, classes, lambda outputs: outputs / 0)


def halves(shape: Shape, classes: int) -> nn.Module:
    """Parameters in half precision."""
    return _Net(shape, classes).half()


def doubles(shape: Shape, classes: int) -> nn.Module:
    """Parameters in double precision."""
    return _Net(shape, classes).double()


def complex_numbers(shape: Shape, classes: int) -> nn.Module:
    """A complex parameter."""
    net = _Net(shape, classes)
    net.scale = nn.Parameter(torch.ones(1, dtype=torch.complex64))
    return net


def lazies(shape: Shape, classes: int) -> nn.Module:
    """A layer without sizes."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def meta(shape: Shape, classes: int) -> nn.Module:
    """Parameters without memory."""
    return _Net(shape, classes).to("meta")


def no_weights(shape: Shape, classes: int) -> nn.Module:
    """Nothing to prune."""
    return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(classes), nn.BatchNorm1d(classes))


def frozen(shape: Shape, classes: int) -> nn.Module:
    """Weights that do not require gradients."""
    return _Net(shape, classes).requires_grad_(False)


def odd_names(shape: Shape, classes: int) -> nn.Module:
    """A layer whose name has two lines."""
    net = _Net(shape, classes)
    net.add_module("a\nb", nn.Linear(2, 2))
    return net


def uncopied(shape: Shape, classes: int) -> nn.Module:
    """A network that cannot be copied."""
    net = _Net(shape, classes)
    net.register_buffer("twice", net.first.weight * 2, persistent=False)
    return net


def raises_value(shape: Shape, classes: int) -> nn.Module:
    """A constructor that raises a common type of error, in two lines."""
    raise ValueError("first\nsecond")


def opens_no_file(shape: Shape, classes: int) -> nn.Module:
    """A constructor that reads a file that is not there."""
    with open("/no/such/file"):
        return _Net(shape, classes)


def leaves_at_once(shape: Shape, classes: int) -> nn.Module:
    """A constructor that ends the process."""
    sys.exit(3)


def interrupts(shape: Shape, classes: int) -> nn.Module:
    """A constructor that raises what is no Exception."""
    raise GeneratorExit("enough")


def raises_forward(shape: Shape, classes: int) -> nn.Module:
    """A forward pass that fails."""

    def fail(outputs: Tensor) -> Tensor:
        raise KeyError("logits")

    return _Net(shape, classes, fail)


class _FailsInTraining(_Net):
    def forward(self, inputs: Tensor) -> Any:
        if self.training:
            raise RuntimeError("no training today")
        return super().forward(inputs)


def raises_in_training(shape: Shape, classes: int) -> nn.Module:
    """A forward pass that fails in train mode only."""
    return _FailsInTraining(shape, classes)


def prints(shape: Shape, classes: int) -> nn.Module:
    """A constructor that prints in Python and below it."""
    print("a line of Python")
    os.write(1, b"a line of C\n")
    return _Net(shape, classes)

"""A third-party network: `paibench run --model bottleneck`."""

from math import prod

from torch import nn


def bottleneck(shape: tuple[int, int, int], classes: int, *, width: int = 32) -> nn.Module:
    """A network with a narrow linear layer between two layers of ReLUs.

    `shape` is channels, height and width of an input. Options are keyword-only, of plain types,
    with defaults; paibench then initializes the weights as the spec says.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, width, bias=False),
        nn.Linear(width, 4 * width, bias=False),
        nn.ReLU(),
        nn.Linear(4 * width, classes),
    )

"""Kronecker saliency: a weight stays whose input is strong and whose output matters to the loss.

The score is w**2 * A * G, where A is the mean square of what comes in at the weight's input
channel, and G that of the loss's slope at its output channel. Were inputs and slopes independent,
A * G would be the mean square of the weight's own slope, and the score the loss that the weight is
worth by the diagonal of the Fisher information; the two factors are those of K-FAC (Martens &
Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", ICML 2015). One
forward and one backward pass over a few examples, and no square matrix.
"""

from typing import Any

import torch
from torch import Tensor, nn

from paibench.methods import Scores, Task, prunable, scoring_copy

Layer = nn.Linear | nn.modules.conv._ConvNd


def kron(
    net: nn.Module, task: Task, density: float, *, per_class: int = 10, batch: int = 256
) -> Scores:
    """The saliency of each weight of a convolution or a linear map; others score by size alone.

    Options:
        per_class: how many training examples of each class are looked at.
        batch: examples in a batch.
    """
    copy = scoring_copy(net, "train")
    weights = prunable(copy)
    squares: dict[int, Tensor] = {}
    for module in copy.modules():
        if isinstance(module, Layer):
            _listen(module, squares)
    for inputs, labels in task.batches(per_class=per_class, size=batch):
        loss = task.loss(copy(inputs), labels) * len(labels)
        torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    scores = {}
    for name, weight in weights.items():
        square = squares.get(id(weight))
        scores[name] = weight.detach() ** 2 * (1 if square is None else square)
    return Scores(scores)


def _listen(layer: Layer, squares: dict[int, Tensor]) -> None:
    """Add A * G of each use of a layer to what its weight has so far, in the weight's shape."""

    def forward(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        channels = -1 if isinstance(module, nn.Linear) else 1
        coming_in = _mean_square(inputs[0].detach(), channels)

        def backward(slope: Tensor) -> None:
            product = _product(layer, coming_in, _mean_square(slope, channels))
            known = squares.get(id(layer.weight))
            squares[id(layer.weight)] = product if known is None else known + product

        output.register_hook(backward)  # type: ignore[no-untyped-call]

    layer.register_forward_hook(forward)


def _mean_square(values: Tensor, channels: int) -> Tensor:
    """The mean square of each channel [c], over examples and places."""
    return values.movedim(channels, -1).reshape(-1, values.shape[channels]).square().mean(0)


def _product(layer: Layer, coming_in: Tensor, slopes: Tensor) -> Tensor:
    """Each output channel's number times that of each input channel that it sees."""
    if isinstance(layer, nn.Linear):
        return slopes[:, None] * coming_in[None, :]
    flat = [1] * (layer.weight.dim() - 2)
    if layer.transposed:
        groups = slopes.view(layer.groups, 1, -1).expand(-1, len(coming_in) // layer.groups, -1)
        return coming_in.view(-1, 1, *flat) * groups.reshape(len(coming_in), -1, *flat)
    groups = coming_in.view(layer.groups, 1, -1).expand(-1, len(slopes) // layer.groups, -1)
    return slopes.view(-1, 1, *flat) * groups.reshape(len(slopes), -1, *flat)

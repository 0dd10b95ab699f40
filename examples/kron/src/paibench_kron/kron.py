"""Kronecker saliency: keep weights with a strong input and an output that matters to the loss.

The score is w**2 * A * G, where A is the mean square of the values at the weight's input channel,
and G the mean square of the loss gradient at its output channel. If values and gradients were
independent, A * G would be the mean square of the weight's own gradient, and the score the increase
of the loss by the diagonal of the Fisher information. The two factors are those of K-FAC (Martens &
Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", ICML 2015). The
search is one forward and one backward pass over a few examples, without any square matrix.
"""

from typing import Any

import torch
from torch import Tensor, nn

from paibench.methods import Scores, Task, prunable, scoring_copy

Layer = nn.Linear | nn.modules.conv._ConvNd


def kron(
    net: nn.Module, task: Task, density: float, *, per_class: int = 10, batch: int = 256
) -> Scores:
    """Return the saliency of each weight; layers of unknown kinds score w**2.

    Options:
        per_class: the number of training examples of each class.
        batch: the number of examples in a batch.
    """
    copy = scoring_copy(net, "train")
    weights = prunable(copy)
    squares: dict[int, Tensor] = {}
    for module in copy.modules():
        if isinstance(module, Layer):
            _accumulate(module, squares)
    for inputs, labels in task.batches(per_class=per_class, size=batch):
        loss = task.loss(copy(inputs), labels) * len(labels)
        torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    scores = {}
    for name, weight in weights.items():
        square = squares.get(id(weight))
        scores[name] = weight.detach() ** 2 * (1 if square is None else square)
    return Scores(scores)


def _accumulate(layer: Layer, squares: dict[int, Tensor]) -> None:
    """Hook a layer to add A * G of each use to the entry of its weight in `squares`."""

    def forward(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        channels = -1 if isinstance(module, nn.Linear) else 1
        inputs_square = _mean_square(inputs[0].detach(), channels)

        def backward(slope: Tensor) -> None:
            product = _product(layer, inputs_square, _mean_square(slope, channels))
            known = squares.get(id(layer.weight))
            squares[id(layer.weight)] = product if known is None else known + product

        output.register_hook(backward)  # type: ignore[no-untyped-call]

    layer.register_forward_hook(forward)


def _mean_square(values: Tensor, channels: int) -> Tensor:
    """Return the mean square of each channel [c], over examples and positions."""
    return values.movedim(channels, -1).reshape(-1, values.shape[channels]).square().mean(0)


def _product(layer: Layer, inputs_square: Tensor, slopes: Tensor) -> Tensor:
    """Return A * G in the shape of the weight: each output channel times its input channels."""
    if isinstance(layer, nn.Linear):
        return slopes[:, None] * inputs_square[None, :]
    flat = [1] * (layer.weight.dim() - 2)
    if layer.transposed:
        groups = slopes.view(layer.groups, 1, -1).expand(-1, len(inputs_square) // layer.groups, -1)
        return inputs_square.view(-1, 1, *flat) * groups.reshape(len(inputs_square), -1, *flat)
    groups = inputs_square.view(layer.groups, 1, -1).expand(-1, len(slopes) // layer.groups, -1)
    return slopes.view(-1, 1, *flat) * groups.reshape(len(slopes), -1, *flat)

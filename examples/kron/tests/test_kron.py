"""The conformance cases, and what is true of Kronecker saliency only."""

import copy

import pytest
import torch
from torch import Tensor, nn

from paibench.methods import Task, get, prunable
from paibench.methods.conformance import CASES, check
from paibench.methods.conformance.networks import network, task


@pytest.mark.parametrize("case", CASES)
def test_conformance(case: str) -> None:
    """The method passes the conformance cases."""
    check("kron", case)


def linear() -> tuple[nn.Module, Tensor, Tensor]:
    """A single linear map in double precision, with examples and labels for it."""
    draw = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(5, 3, bias=False)).double()
    inputs = torch.randn(30, 1, 1, 5, generator=draw, dtype=torch.float64)
    return net, inputs, torch.arange(30) % 3


def test_one_linear_map() -> None:
    """The factors of a linear layer are the mean squares of inputs and of softmax minus one-hot."""
    net, inputs, labels = linear()
    found = get("kron")(copy.deepcopy(net), Task.of(inputs, labels, classes=3), 0.5)
    weight = net[1].weight.detach()
    x = inputs.flatten(1)
    slopes = (x @ weight.T).softmax(1) - nn.functional.one_hot(labels, 3)
    expected = weight**2 * slopes.square().mean(0)[:, None] * x.square().mean(0)[None, :]
    torch.testing.assert_close(found.values["1.weight"], expected)


def test_a_dead_input_scores_nothing() -> None:
    """Weights from an input that is always 0 score 0."""
    net, inputs, labels = linear()
    inputs[..., 2] = 0
    scores = get("kron")(net, Task.of(inputs, labels, classes=3), 0.5).values["1.weight"]
    assert (scores[:, 2] == 0).all()
    assert (scores[:, [0, 1, 3, 4]] > 0).all()


def test_a_weight_that_is_used_twice_counts_twice() -> None:
    """The saliency of a tied weight is the sum over its uses."""
    scores = get("kron")(network("tied"), task(), 0.5).values
    assert list(scores) == list(prunable(network("tied")))
    assert all(bool((score > 0).any()) for score in scores.values())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Conv1d(3, 5, 2),
    ],
    ids=["grouped", "depthwise", "transposed", "1d"],
)
def test_channels_of_convolutions(layer: nn.Module) -> None:
    """If the inputs of one channel are 0, exactly its weights score 0."""
    places = (6,) if isinstance(layer, nn.Conv1d) else (6, 6)
    net = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))
    inputs = torch.randn(12, layer.in_channels, *places)
    inputs[:, 1] = 0
    net(inputs)
    four = inputs.unsqueeze(-1) if isinstance(layer, nn.Conv1d) else inputs
    wrapped = nn.Sequential(nn.Flatten(2), nn.Unflatten(2, places), *net)
    found = get("kron")(wrapped, Task.of(four, torch.arange(12) % 3, classes=3), 0.5)
    scores = found.values["2.weight"]
    weight = copy.deepcopy(layer.weight.detach())
    with torch.no_grad():  # what a change of these weights does to the output
        moves = []
        for place in range(weight.numel()):
            layer.weight.copy_(weight)
            before = layer(inputs)
            layer.weight.view(-1)[place] += 1
            moves.append(bool((layer(inputs) != before).any()))
    assert torch.equal(scores.flatten() > 0, torch.tensor(moves))

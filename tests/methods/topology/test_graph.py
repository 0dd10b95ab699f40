"""The graph of a network: groups of units, steps, shortcuts, and what cannot be followed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.conformance.networks import SHAPE, network
from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError
from paibench.methods.topology.graph import Graph, graph_of


class Net(nn.Module):
    """Some layers, and a function of them and the input."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(before: int, after: int, size: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, groups=groups)


def layers_of(graph: Graph) -> list[str]:
    return [step.name for step in graph.steps if step.kind == "layer"]


def kinds(graph: Graph) -> list[str]:
    return [step.kind for step in graph.steps]


def test_a_chain() -> None:
    """Activations and pooling belong to the units of their layer; a flattened image has more."""
    graph = graph_of(network("plain"), SHAPE)
    assert graph.sizes == [2, 4, 36, 12, 3]
    assert kinds(graph) == ["layer", "flatten", "layer", "layer"]
    assert graph.steps[1].repeats == 9
    assert layers_of(graph) == list(prunable(network("plain")))
    assert graph.output == 4


def test_a_tied_weight_is_two_layers() -> None:
    """A weight that is used twice has two steps."""
    assert layers_of(graph_of(network("tied"), SHAPE)).count("second.weight") == 2


def test_a_shortcut_without_a_layer() -> None:
    """It is a term of the sum, and left out of the graph without shortcuts."""
    graph = graph_of(network("batch-norm"), SHAPE)
    (whole,) = [step.inputs for step in graph.steps if step.kind == "sum"]
    (rest,) = [step.inputs for step in graph.without_shortcuts().steps if step.kind == "sum"]
    assert len(whole) == 2
    assert len(rest) == 1
    assert graph.producers[rest[0]].name == "depthwise.weight"
    assert [step.groups for step in graph.steps if step.kind == "layer"] == [1, 2, 4, 1]


def test_a_shortcut_with_a_layer() -> None:
    """A projection is a path like the other; one that only subsamples and pads is a shortcut."""

    def projected(net: Any, x: Tensor) -> Any:
        x = torch.relu(net.first(x))
        return net.last((net.shortcut(x) + net.second(x)).mean((2, 3)))

    def padded(net: Any, x: Tensor) -> Any:
        x = torch.relu(net.first(x))[:, :, ::1, ::1]
        padding = nn.functional.pad(x, (0, 0, 0, 0, 1, 1))
        return net.last((net.second(x) + padding).mean((2, 3)))

    layers = {"first": conv(2, 4), "second": conv(4, 6), "last": nn.Linear(6, 3)}
    projection = Net(projected, shortcut=conv(4, 6, 1), **layers)
    assert len(layers_of(graph_of(projection, SHAPE).without_shortcuts())) == 4
    graph = graph_of(Net(padded, **layers), SHAPE)
    assert "unknown" in kinds(graph)
    graph.without_shortcuts().check("phew")


def test_a_concatenation() -> None:
    """The units of its inputs follow each other."""

    def joined(net: Any, x: Tensor) -> Any:
        x = net.first(x)
        return net.last(torch.cat([x, net.second(x)], 1).flatten(1))

    net = Net(joined, first=conv(2, 4), second=conv(4, 3), last=nn.Linear(7 * 36, 3))
    graph = graph_of(net, SHAPE)
    (step,) = [step for step in graph.steps if step.kind == "cat"]
    assert graph.offsets(step) == [0, 4]
    assert graph.sizes[step.output] == 7
    assert kinds(graph.without_shortcuts()).count("cat") == 1


def test_a_gate() -> None:
    """A product has two ways: none of them is a shortcut."""

    def gated(net: Any, x: Tensor) -> Any:
        x = net.first(x)
        gate = torch.sigmoid(net.gate(x.mean((2, 3), keepdim=True)))
        return net.last((x * gate).mean((2, 3)))

    graph = graph_of(
        Net(gated, first=conv(2, 4), gate=conv(4, 4, 1), last=nn.Linear(4, 3)), SHAPE
    ).without_shortcuts()
    (step,) = [step for step in graph.steps if step.kind == "product"]
    assert len(step.inputs) == 2


def test_channels_last() -> None:
    """A linear layer on the last axis leads from channels to channels, as a 1x1 convolution."""

    def permuted(net: Any, x: Tensor) -> Any:
        x = net.first(x).permute(0, 2, 3, 1)
        x = net.second(nn.functional.layer_norm(x, (4,))).permute(0, 3, 1, 2)
        return net.last(x.mean((2, 3)))

    graph = graph_of(
        Net(permuted, first=conv(2, 4), second=nn.Linear(4, 5), last=nn.Linear(5, 3)), SHAPE
    )
    assert kinds(graph) == ["layer"] * 3
    assert graph.sizes == [2, 4, 5, 3]


def test_scales() -> None:
    """The scale of a batch norm belongs to the units that it scales."""
    graph = graph_of(network("batch-norm"), SHAPE)
    named = {name: graph.producers[group].name for name, group in graph.scales.items()}
    assert named == {"stem.1.weight": "stem.0.weight", "norm.weight": "depthwise.weight"}


def test_the_network_is_as_before() -> None:
    """Recording changes nothing, also if the network is being trained."""
    net = network("batch-norm").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph_of(net, SHAPE)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("run", "operation"),
    [
        (lambda net, x: net.last(torch.softmax(net.first(x), 1).mean((2, 3))), "softmax"),
        (lambda net, x: net.last(net.first(x).flip(1).mean((2, 3))), "flip"),
        (lambda net, x: net.last(net.first(x).reshape(2, 2, 2, 36).sum((2, 3)).tile(2)), "reshape"),
        (lambda net, x: net.last(net.first(x)[:, [1, 0, 3, 2]].mean((2, 3))), "getitem"),
        (lambda net, x: net.last(net.first(x)[:, :2].tile(1, 2, 1, 1).mean((2, 3))), "getitem"),
        (lambda net, x: net.last(net.first(x).chunk(2, 1)[0].mean((2, 3)).tile(2)), "chunk"),
    ],
)
def test_what_cannot_be_followed(run: Callable[..., Any], operation: str) -> None:
    """An operation that mixes or moves units is named; the first of them, if there are several."""
    net = Net(run, first=conv(2, 4), last=nn.Linear(4, 3))
    with pytest.raises(UserError, match=f"phew cannot follow .* through '{operation}'"):
        graph_of(net, SHAPE).without_shortcuts().check("phew")


def test_many_ways_that_cannot_be_followed() -> None:
    """The 2^80 ways through 80 blocks are not walked one by one."""

    def blocks(net: Any, x: Tensor) -> Any:
        x = net.first(x)
        for _ in range(80):
            x = x + torch.softmax(x, 1)
        return net.last(x.mean((2, 3)))

    graph = graph_of(Net(blocks, first=conv(2, 4), last=nn.Linear(4, 3)), SHAPE)
    assert len(graph.without_shortcuts().steps) == 80 * 2 + 2


def test_an_output_that_is_no_tensor() -> None:
    """The output must be one tensor that depends on the input."""
    for run in (lambda net, x: (net.first(x),), lambda net, x: torch.ones(2, 3)):
        with pytest.raises(UserError, match="does not return one tensor"):
            graph_of(Net(run, first=conv(2, 4)), SHAPE)

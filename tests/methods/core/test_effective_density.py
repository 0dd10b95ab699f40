"""Effective masks against searches of the graph of single values."""

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.core.effective_density import effective
from paibench.methods.core.mask import Mask, full, keep_top, layer_counts, prunable, total

Node = tuple[str | int, ...]
Edge = tuple[Node, Node, Node | None]  # from, to, and the place of the weight between them

draws = given(seed=st.integers(0, 10_000), density=st.floats(0.02, 1))
few = settings(max_examples=25, deadline=None, derandomize=True)


def drawn(net: nn.Module, seed: int, density: float) -> Mask:
    """A mask by lot of about this density."""
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=draw) < density for name, w in weights(net)}


def weights(net: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return prunable(net).items()


def found(net: nn.Module, mask: Mask, *shape: int) -> set[Node]:
    """The places of the effective weights."""
    mask_found = effective(net, mask, shape)
    assert mask_found is not None
    return {(name, *place) for name, m in mask_found.items() for place in m.nonzero().tolist()}


def on_paths(edges: list[Edge]) -> set[Node]:
    """The weights on edges from a node "in" to a node "out": search from both ends."""

    def search(steps: dict[Node, list[Node]], first: str) -> set[Node]:
        seen = {node for node in steps if node[0] == first}
        waiting = list(seen)
        while waiting:
            new = set(steps.get(waiting.pop(), [])) - seen
            seen |= new
            waiting.extend(new)
        return seen

    onward: dict[Node, list[Node]] = {}
    back: dict[Node, list[Node]] = {}
    for source, target, _ in edges:
        onward.setdefault(source, []).append(target)
        back.setdefault(target, []).append(source)
    reached, wanted = search(onward, "in"), search(back, "out")
    return {place for s, t, place in edges if place and s in reached and t in wanted}


def conv_edges(source: str, target: str, name: str, mask: Tensor, size: int) -> Iterator[Edge]:
    """The edges of a 3x3 convolution with padding 1 over size x size values."""
    for o, i, dy, dx in mask.nonzero().tolist():
        for y in range(size):
            for x in range(size):
                from_y, from_x = y + dy - 1, x + dx - 1
                if 0 <= from_y < size and 0 <= from_x < size:
                    place = (name, o, i, dy, dx)
                    yield (source, i, from_y, from_x), (target, o, y, x), place


def linear_edges(source: str, target: str, name: str, mask: Tensor, size: int) -> Iterator[Edge]:
    """The edges of a linear map from channels of size x size values, flattened."""
    for o, i in mask.nonzero().tolist():
        y, x = divmod(i % (size * size), size)
        yield (source, i // (size * size), y, x), (target, o), (name, o, i)


@draws
@few
def test_mlp(seed: int, density: float) -> None:
    """In a stack of linear layers, products of boolean matrices give the same result."""
    net = nn.Sequential(
        *(nn.Flatten(), nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 4)),
        *(nn.Dropout(), nn.Sigmoid(), nn.Linear(4, 7), nn.GELU(), nn.Linear(7, 3)),
    )
    mask = drawn(net, seed, density)
    layers = [m.double() for m in mask.values()]
    ahead, behind = [torch.ones(5).double()], [torch.ones(3).double()]
    for layer in layers:
        ahead.append((layer @ ahead[-1]).clamp(max=1))
    for layer in reversed(layers):
        behind.append((layer.T @ behind[-1]).clamp(max=1))
    expected = {
        name: m & (behind[-2 - place][:, None] * ahead[place] > 0)
        for place, (name, m) in enumerate(mask.items())
    }
    result = effective(net, mask, (1, 1, 5))
    assert result is not None
    assert all(torch.equal(result[name], expected[name]) for name in expected)


@draws
@few
def test_convolutions(seed: int, density: float) -> None:
    """Paths run through every entry of a max-pool's window, and none through padding."""
    net = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU6(inplace=True), nn.Flatten(), nn.Linear(8, 2)),
    )
    mask = drawn(net, seed, density)
    edges = [
        *conv_edges("in", "a", "0.weight", mask["0.weight"], 4),
        *((("a", c, y, x), ("b", c, y // 2, x // 2), None) for c, y, x in grid(3, 4)),
        *conv_edges("b", "c", "4.weight", mask["4.weight"], 2),
        *linear_edges("c", "out", "7.weight", mask["7.weight"], 2),
    ]
    assert found(net, mask, 2, 4, 4) == on_paths(edges)


def grid(channels: int, size: int) -> Iterator[tuple[int, int, int]]:
    return ((c, y, x) for c in range(channels) for y in range(size) for x in range(size))


class Block(nn.Module):
    """A residual block behind a convolution, before a mean over places and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.conv1 = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.conv2 = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.relu(self.stem(inputs))
        x = F.relu_(self.norm(self.conv2(F.relu6(self.conv1(x)))) + x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@draws
@few
def test_residual_block(seed: int, density: float) -> None:
    """A path may run through the block or past it."""
    net = Block()
    mask = drawn(net, seed, density)
    edges = [
        *conv_edges("in", "a", "stem.weight", mask["stem.weight"], 3),
        *conv_edges("a", "b", "conv1.weight", mask["conv1.weight"], 3),
        *conv_edges("b", "c", "conv2.weight", mask["conv2.weight"], 3),
        *((("a", *place), ("c", *place), None) for place in grid(2, 3)),
        *((("c", *place), ("mean", place[0], 0, 0), None) for place in grid(2, 3)),
        *linear_edges("mean", "out", "head.weight", mask["head.weight"], 1),
    ]
    assert found(net, mask, 1, 3, 3) == on_paths(edges)


def test_padding() -> None:
    """On a single value a 3x3 kernel with padding has one effective weight: its centre."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    assert found(net, full(prunable(net)), 1, 1, 1) == {("0.weight", 0, 0, 1, 1)}


def test_strides_and_groups() -> None:
    """Depthwise kernels, strides and pixels that a stride skips follow the convolution."""
    net = nn.Sequential(nn.Conv2d(2, 2, 2, stride=3, groups=2), nn.Conv2d(2, 1, 1))
    mask = full(prunable(net))
    mask["1.weight"][0, 1] = False
    assert found(net, mask, 2, 4, 4) == {
        ("1.weight", 0, 0, 0, 0),
        *(("0.weight", 0, 0, y, x) for y in range(2) for x in range(2)),
    }


@pytest.mark.parametrize("single", [False, True], ids=["dense", "one path"])
def test_depth(single: bool) -> None:
    """Three hundred wide layers neither overflow when dense nor underflow along one path."""
    net = nn.Sequential(*(nn.Linear(300, 300) for _ in range(300)))
    mask = full(prunable(net))
    if single:
        mask = {name: torch.zeros_like(m) for name, m in mask.items()}
        for m in mask.values():
            m[7, 7] = True
    result = effective(net, mask, (1, 1, 300))
    assert result is not None and layer_counts(result) == layer_counts(mask)


def test_long_residual_stream() -> None:
    """Sums along many shortcuts are not cut off by ReLU6."""

    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.ModuleList(nn.Linear(3, 3) for _ in range(40))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.maps:
                x = F.relu6(x + layer(x))
            return x

    net = Stream()
    result = effective(net, full(prunable(net)), (3,))
    assert result is not None and sum(layer_counts(result).values()) == 360


def test_biases_and_norms() -> None:
    """A bias is no input, and a norm whose scale starts at 0 closes no path."""
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net.get_parameter("0.bias").fill_(1)
        net.get_parameter("1.weight").zero_()
    mask = full(prunable(net))
    mask["0.weight"][0] = False
    assert found(net, mask, 2) == {("0.weight", 1, 0), ("0.weight", 1, 1), ("3.weight", 0, 1)}


def test_leaves_all_as_it_was() -> None:
    """Neither network nor mask is changed, and no weight is effective that is not kept."""
    net = Block().train()
    mask = keep_top({name: torch.rand(w.shape) for name, w in weights(net)}, 30)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    copy = {name: m.clone() for name, m in mask.items()}
    result = effective(net, mask, (1, 3, 3))
    assert result is not None
    assert all(not bool((result[name] & ~mask[name]).any()) for name in mask)
    assert all(torch.equal(mask[name], copy[name]) for name in mask)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.training and all(m.training and not m._forward_hooks for m in net.modules())
    assert total(result) == total(mask)


class Apply(nn.Module):
    """A linear map with something done to what it gives."""

    def __init__(self, then: Callable[[nn.Linear, Tensor], object]) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.then = then

    def forward(self, inputs: Tensor) -> object:
        return self.then(self.map, inputs)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)),
        Apply(lambda linear, x: linear(x) * x),
        Apply(lambda linear, x: F.max_pool1d(linear(x), 2)),
        Apply(lambda linear, x: F.linear(x, linear.weight)),
        Apply(lambda linear, x: (linear(x), x)),
        nn.TransformerEncoderLayer(4, 2, 4, batch_first=True),
    ],
    ids=["LayerNorm", "Softmax", "gate", "max_pool1d", "functional", "two outputs", "attention"],
)
def test_not_known(net: nn.Module) -> None:
    """If the rules do not define a path, the result is None."""
    assert effective(net, full(prunable(net)), (4, 4)) is None

"""PHEW: the probabilities of a walk, paths, and the last walk."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paibench.methods.conformance.networks import SHAPE, network, task
from paibench.methods.core.effective_density import effective
from paibench.methods.core.mask import flatten, layer_counts, num_kept, prunable, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select
from paibench.methods.topology import phew as module
from paibench.methods.topology.phew import Walks, phew

RUNS = 3000


class Block(nn.Module):
    """Two branches with layers, the outputs of which are joined, and a shortcut around them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.after = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        both = torch.cat([self.left(x), self.right(x)], 1)
        x = x + self.after(torch.relu(both))
        logits: Tensor = self.head(x.flatten(1))
        return logits


def drawn(seed: int = 0) -> Block:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Block()


def shares(monkeypatch: pytest.MonkeyPatch, walks: Walks, count: int, place: int) -> list[Tensor]:
    """Return how often each weight of a layer is on a walk, forwards and backwards."""
    found = []
    for back in (False, True):
        passed: list[Tensor] = []
        monkeypatch.setattr(
            walks, "_pass", lambda step, taken, numbers, passed=passed: passed.append(taken)
        )
        end = walks._graph.output if back else walks._start()
        units = torch.arange(count) % walks._graph.sizes[end]
        (walks._backward if back else walks._forward)(end, torch.arange(count), units)
        taken = passed[-1 - place if back else place]
        weight = list(walks._weights.values())[place]
        found.append(torch.bincount(taken, minlength=weight.numel()).double() / count)
    return found


def check_first_steps(monkeypatch: pytest.MonkeyPatch, walks: Walks) -> None:
    """Compare the first weight of a walk with its share of what leaves, or arrives at, a unit."""
    first, _, last = (weight.double().abs().flatten(1) for weight in walks._weights.values())
    count = 60_000
    forwards, _ = shares(monkeypatch, walks, count, 0)
    _, backwards = shares(monkeypatch, walks, count, 2)
    for found, expected in (
        (forwards, first / first.sum(0) / first.shape[1]),
        (backwards, last / last.sum(1, keepdim=True) / len(last)),
    ):
        torch.testing.assert_close(found, expected.flatten(), atol=5 * 0.5 / count**0.5, rtol=0.05)


def perceptron() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    )


def features(seed: int = 0) -> Task:
    return Task.of(torch.zeros(6, 1, 1, 6), torch.arange(6) % 3, classes=3, seed=seed)


def test_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk takes a weight in proportion to its size among all that leave the unit."""
    check_first_steps(monkeypatch, Walks(perceptron(), features()))


def test_the_check_sees_uniform_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that takes any weight that leaves the unit fails the check."""
    draw = module._drawn
    monkeypatch.setattr(module, "_drawn", lambda sums, *rest: draw(torch.zeros_like(sums), *rest))
    with pytest.raises(AssertionError):
        check_first_steps(monkeypatch, Walks(perceptron(), features()))


def test_layers_are_edges() -> None:
    """In grouped convolutions too, each weight leads from its channel to its channel."""
    weight = torch.randn(6, 2, 3, 3)
    layer = module._Layer(weight, groups=2)
    edges = torch.arange(weight.numel())
    for edge in edges.tolist():
        out, local, _, _ = torch.unravel_index(torch.tensor(edge), weight.shape)
        assert int(layer.targets(edges)[edge]) == int(out)
        assert int(layer.sources(edges)[edge]) == int(out) // 3 * 2 + int(local)
    units = torch.arange(4).repeat_interleave(500)
    uniform = torch.rand(2000, dtype=torch.float64)
    assert torch.equal(layer.sources(layer.leaving(units, uniform)), units)
    units = torch.arange(6).repeat_interleave(500)
    uniform = torch.rand(3000, dtype=torch.float64)
    assert torch.equal(layer.targets(layer.arriving(units, uniform)), units)


@pytest.mark.parametrize("kind", ["plain", "batch-norm", "bias-free", "block"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(density=st.floats(0.06, 0.9), seed=st.integers(0, 9))
def test_every_weight_lies_on_a_path(kind: str, density: float, seed: int) -> None:
    """The count is exact, and no kept weight is without effect."""
    net = drawn(seed) if kind == "block" else network(kind, seed=seed)
    mask = select(phew(net, task(seed), density), net, density)
    assert sum(layer_counts(mask).values()) == num_kept(density, total(prunable(net)))
    used = effective(net, mask, SHAPE)
    assert used is not None
    assert all(torch.equal(used[name], mask[name]) for name in mask)
    assert all(layer_counts(mask).values())


def test_part_of_a_walk_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """If weights of the last walk were kept, some would lead nowhere."""
    monkeypatch.setattr(Walks, "_between", lambda self, last: torch.zeros_like(self.first).bool())
    dead = 0
    for seed in range(40):
        net = drawn(seed)
        density = 0.01 + 0.001 * seed
        mask = select(phew(net, task(seed), density), net, density)
        used = effective(net, mask, SHAPE)
        assert used is not None
        dead += sum(layer_counts(mask).values()) - sum(layer_counts(used).values())
    assert dead > 0


def test_the_first_walks_are_kept() -> None:
    """What the first walks pass is kept at all densities, if the seed is the same."""
    net = drawn()
    walks = Walks(net, task())
    walks.add(64)
    for density in (0.2, 0.4):
        mask = flatten(select(phew(net, task(), density), net, density))
        kept = num_kept(density, len(mask))
        last = int(walks.first.sort().values[kept - 1])
        assert bool(mask[walks.first < last].all())


def test_shortcuts_are_not_taken() -> None:
    """Each walk passes one weight of each layer, and one of the two branches."""
    walks = Walks(drawn(), task())
    walks.add(1)
    passed = {name: int((first < module.NEVER).sum()) for name, first in walks._firsts.items()}
    branches = passed.pop("left.weight") + passed.pop("right.weight")
    assert 1 <= branches <= 2
    assert all(1 <= count <= 2 for count in passed.values())


def test_whole_kernels() -> None:
    """With `keep="kernel"` all layers but the last cut keep whole kernels."""
    net = drawn()
    density = 0.3
    mask = select(phew(net, task(), density, keep="kernel"), net, density)
    parts = mask["left.weight"].flatten(2).double().mean(2)
    assert int(((parts > 0) & (parts < 1)).sum()) <= 1 < int((parts == 1).sum())


def mask_of(net: nn.Module, given_task: Task, **options: Any) -> Tensor:
    return flatten(select(phew(net, given_task, 0.2, **options), net, 0.2))


def test_no_data() -> None:
    """Labels and images play no part; weights and the seed do."""
    images = Task.of(torch.randn(6, *SHAPE), torch.arange(6) % 3, classes=3)
    assert torch.equal(mask_of(drawn(), images), mask_of(drawn(), task()))
    assert not torch.equal(mask_of(drawn(), task()), mask_of(drawn(), task(1)))
    assert not torch.equal(mask_of(drawn(), task()), mask_of(drawn(1), task()))
    with torch.no_grad():
        scaled = drawn()
        for weight in prunable(scaled).values():
            weight.mul_(-2.0)
    assert torch.equal(mask_of(drawn(), task()), mask_of(scaled, task()))


def test_zeros() -> None:
    """A unit whose weights are all 0 is left by any of them."""
    net = drawn()
    with torch.no_grad():
        net.left.weight.zero_()
        net.right.weight.zero_()
    mask = select(phew(net, task(), 0.2), net, 0.2)
    assert all(layer_counts(mask).values())


def test_attention() -> None:
    """A network whose units cannot be followed is refused in one line."""
    with pytest.raises(UserError, match=r"^phew cannot follow the units of the network through"):
        phew(network("transformer"), task(), 0.2)

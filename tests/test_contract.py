"""What every registered method keeps to, whoever wrote it."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.mask import Mask, density, layer_counts, prunable, total
from paibench.methods.mask_file import digest
from paibench.methods.recipe import Recipe
from paibench.methods.registry import get, names
from paibench.methods.task import Task
from paibench.methods.ticket import Scores, as_ticket, select

METHODS = [name for name in names() if name != "dense"]
ONE_SHOT: dict[str, dict[str, Any]] = {  # whose scores do not depend on the density
    "magnitude": {},
    "random": {},
    "snip": {},
    "grasp": {},
    "synflow": {"iterations": 1},
}
DENSITIES = [1.0, 0.7, 0.5, 0.1, 0.03]

CLASSES = 3
SHAPE = (2, 6, 6)


class Residual(nn.Module):
    """A convolutional network with norms, a skip, grouped and depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.norm(self.depthwise(torch.relu(self.grouped(x)))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Tied(nn.Module):
    """A network that uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(72, 12)
        self.there, self.back = nn.Linear(12, 12), nn.Linear(12, 12)
        self.back.weight = self.there.weight
        self.head = nn.Linear(12, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        logits: Tensor = self.head(torch.relu(self.back(torch.relu(self.there(x)))))
        return logits


class Transformer(nn.Module):
    """One block of self-attention over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 8)
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8)])
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2).flatten(2))
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=-1) @ v)
        x = x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))
        logits: Tensor = self.head(x.mean(1))
        return logits


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "tied": Tied,
    "transformer": Transformer,
    "bias-free": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 9, bias=False), nn.ReLU(), nn.Linear(9, CLASSES, bias=False)
    ),
}


def net_of(kind: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return NETS[kind]().to(dtype)


def task_of(seed: int = 0, dtype: torch.dtype = torch.float32) -> Task:
    draw = torch.Generator().manual_seed(11)
    inputs = torch.randn(48, *SHAPE, generator=draw, dtype=dtype)
    labels = torch.arange(48) % CLASSES
    return Task.of(
        inputs, labels, classes=CLASSES, seed=seed, recipe=Recipe(epochs=3, batch=16, lr=0.05)
    )


def mask_of(method: str, net: nn.Module, task: Task, asked: float, **options: Any) -> Mask:
    found = get(method)(copy.deepcopy(net), task, asked, **options)
    return select(as_ticket(found).mask, net, asked)


def state_of(net: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor.clone()) for name, tensor in net.state_dict().items()]


@contextmanager
def globals_unchanged() -> Iterator[None]:
    def look() -> tuple[object, ...]:
        return (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before, random = look(), torch.get_rng_state()
    yield
    assert look() == before
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("asked", [*DENSITIES, None], ids=lambda d: "one" if d is None else str(d))
@pytest.mark.parametrize("method", METHODS)
def test_exact_count_over_exactly_the_prunable_weights(method: str, asked: float | None) -> None:
    """`round(density * total)` weights are kept, from all of them down to one."""
    net = net_of("residual")
    weights = prunable(net)
    asked = 1 / total(weights) if asked is None else asked
    mask = mask_of(method, net, task_of(), asked)
    assert list(mask) == list(weights)
    assert all(mask[name].shape == weights[name].shape for name in weights)
    assert all(kept.dtype == torch.bool for kept in mask.values())
    assert sum(layer_counts(mask).values()) == round(asked * total(weights))
    assert density(mask) == sum(layer_counts(mask).values()) / total(mask)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_mask_on_every_kind_of_network(
    method: str, kind: str, dtype: torch.dtype
) -> None:
    """A method finds a mask on every network, twice the same, bit for bit."""
    first, second = (mask_of(method, net_of(kind, dtype), task_of(3, dtype), 0.3) for _ in range(2))
    assert digest(first) == digest(second)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_and_all_global_state_are_as_before(method: str) -> None:
    """A search changes no weight, buffer, gradient or flag, and nothing global."""
    net = net_of("residual").train()
    before, task = state_of(net), task_of()
    with globals_unchanged():
        get(method)(net, task, 0.2)
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for (name, old), (other, new) in zip(before, state_of(net), strict=True):
        assert name == other
        assert torch.equal(old, new), name


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_finite_numbers(method: str) -> None:
    """What is ranked is a number for every weight."""
    found = as_ticket(get(method)(net_of("residual"), task_of(), 0.2)).mask
    assert isinstance(found, Scores)
    assert all(bool(score.isfinite().all()) for score in found.values.values())


@pytest.mark.parametrize("method", METHODS)
def test_inverted_scores_keep_as_many(method: str) -> None:
    """The control `invert` keeps the exact count too, and other weights."""
    net = net_of("residual")
    found = as_ticket(get(method)(copy.deepcopy(net), task_of(), 0.2)).mask
    mask, inverse = select(found, net, 0.2), select(found, net, 0.2, invert=True)
    assert sum(layer_counts(inverse).values()) == sum(layer_counts(mask).values())
    assert digest(inverse) != digest(mask)


@pytest.mark.parametrize("method", ONE_SHOT)
def test_one_shot_masks_are_nested(method: str) -> None:
    """A sparser mask of a one-shot method lies within a denser one."""
    net = net_of("residual")
    options = ONE_SHOT[method]
    masks = [mask_of(method, net, task_of(), asked, **options) for asked in (0.7, 0.3, 0.1, 0.02)]
    for wide, narrow in zip(masks, masks[1:], strict=False):
        assert all(bool((wide[name] | ~narrow[name]).all()) for name in wide)


@pytest.mark.parametrize("method", ["magnitude", "snip", "grasp", "synflow"])
def test_permuting_hidden_units_permutes_the_mask(method: str) -> None:
    """Scores belong to weights, not to places: renamed units take their scores along."""
    net = net_of("bias-free", torch.float64)
    order = torch.tensor([3, 1, 4, 0, 8, 2, 7, 6, 5])
    other = copy.deepcopy(net)
    first, last = prunable(other).values()
    with torch.no_grad():
        first.copy_(first[order])
        last.copy_(last[:, order])
    mask = mask_of(method, net, task_of(dtype=torch.float64), 0.2)
    permuted = mask_of(method, other, task_of(dtype=torch.float64), 0.2)
    first_name, last_name = mask
    assert torch.equal(permuted[first_name], mask[first_name][order])
    assert torch.equal(permuted[last_name], mask[last_name][:, order])


@pytest.mark.parametrize("method", ["random", "edge_popup", "gem_miner", "zhou", "imp"])
def test_another_seed_may_give_another_mask(method: str) -> None:
    """The seed reaches a method that draws or trains: its mask changes with it."""
    net = net_of("residual")
    masks = {digest(mask_of(method, net, task_of(seed), 0.3)) for seed in range(3)}
    assert len(masks) > 1


@pytest.mark.parametrize("method", METHODS)
def test_pruned_weights_stay_zero_through_training(method: str) -> None:
    """After steps with momentum and weight decay, exactly the pruned weights are 0."""
    net, task = net_of("residual"), task_of()
    mask = mask_of(method, net, task, 0.2)
    task.fit(net, mask=mask, weight_decay=0.01, nesterov=True)
    for name, weight in prunable(net).items():
        assert bool((weight[~mask[name]] == 0).all()), name
        assert bool((weight[mask[name]] != 0).all()), name


def test_dense_keeps_everything_and_nothing_else() -> None:
    """The reference is the mask of ones, and refuses to be anything sparser."""
    net = net_of("residual")
    assert all(bool(kept.all()) for kept in get("dense")(net, task_of(), 1.0).values())
    with pytest.raises(ValueError, match=r"density 0\.5 must be 1"):
        get("dense")(net, task_of(), 0.5)

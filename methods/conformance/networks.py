"""Small networks with the structures that a finder must support, and small data for them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paibench.methods.core.task import Task
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import Services

CLASSES = 3
SHAPE = (2, 6, 6)
EXAMPLES = 48
SENTINEL = 7.25
"""The first pixel of every example, by which probes tell examples from other inputs."""


class Residual(nn.Module):
    """A convolutional network with norms, a skip connection, grouped and depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        # the second axis of these weights is the number of input channels per group
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [b, 3] of inputs [b, 2, 6, 6]."""
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.norm(self.depthwise(torch.relu(self.grouped(x)))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Tied(nn.Module):
    """A network that uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(72, 12)
        self.second, self.third = nn.Linear(12, 12), nn.Linear(12, 12)
        # named_parameters lists the weight once, but state_dict lists it under both names
        self.third.weight = self.second.weight
        self.head = nn.Linear(12, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [b, 3] of inputs [b, 2, 6, 6]."""
        x = torch.relu(self.first(x.flatten(1)))
        logits: Tensor = self.head(torch.relu(self.third(torch.relu(self.second(x)))))
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
        """Return logits [b, 3] of inputs [b, 2, 6, 6]."""
        x = self.embed(x.transpose(1, 2).flatten(2))
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=-1) @ v)
        x = x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))
        logits: Tensor = self.head(x.mean(1))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, CLASSES)),
    ),
    "batch-norm": Residual,
    "tied": Tied,
    "transformer": Transformer,
    "bias-free": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 9, bias=False), nn.ReLU(), nn.Linear(9, CLASSES, bias=False)
    ),
}


def network(kind: str, dtype: torch.dtype = torch.float32, seed: int = 5) -> nn.Module:
    """Return one of the networks, initialized by a seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        # layers of torch draw their weights from the global generator
        torch.manual_seed(seed)
        return NETWORKS[kind]().to(dtype)


def images(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return inputs [48, 2, 6, 6] whose first pixel is SENTINEL, and labels [48]."""
    # a generator of its own: every case sees the same data
    draw = torch.Generator().manual_seed(11)
    inputs = torch.randn(EXAMPLES, *SHAPE, generator=draw, dtype=dtype)
    inputs[:, 0, 0, 0] = SENTINEL
    return inputs, torch.arange(EXAMPLES) % CLASSES


def task(
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    services: Services | None = None,
) -> Task:
    """Return a task of these images, with a recipe of three short epochs."""
    inputs, labels = (tensor.to(device) for tensor in images(dtype))
    result = Task.of(
        inputs, labels, classes=CLASSES, seed=seed, recipe=Recipe(epochs=3, batch=16, lr=0.05)
    )
    result._services = services or result._services
    return result


def half_dead(seed: int) -> nn.Module:
    """Return a network in which every other hidden unit has negligible weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(72, 32), nn.Linear(32, CLASSES)
    with torch.no_grad():
        first.weight[::2] *= 1e-4
        # a bias would keep a unit alive without its weights
        first.bias.zero_()
        last.weight[:, ::2] *= 1e-4
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


def separable(seed: int) -> Task:
    """Return a task in which each class has its own direction in input space."""
    draw = torch.Generator().manual_seed(13)
    directions = torch.randn(CLASSES, *SHAPE, generator=draw)
    labels = torch.arange(96) % CLASSES
    inputs = directions[labels] + 0.7 * torch.randn(96, *SHAPE, generator=draw)
    recipe = Recipe(epochs=6, batch=16, lr=0.1)
    return Task.of(inputs, labels, classes=CLASSES, seed=seed, recipe=recipe)

"""The named recipes are the papers' training protocols, number by number."""

from typing import Any

import pytest

from paibench.methods.core.registry import get, names
from paibench.methods.training.recipe import Recipe

# As the authors' code has them; drops in epochs, since that is how they are printed.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "lenet-mnist": {"epochs": 40, "batch": 128, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
    "conv": {"epochs": 100, "batch": 128, "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "cifar-resnet": {"epochs": 160, "batch": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "cifar-vgg": {"epochs": 160, "batch": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "gem-miner": {"epochs": 150, "batch": 128, "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "tiny-imagenet": {
        "epochs": 200,
        "batch": 256,
        "lr": 0.2,
        "momentum": 0.9,
        "weight_decay": 5e-4,
    },
    "imagenet": {"epochs": 100, "batch": 256, "lr": 0.256, "momentum": 0.875}
    | {"weight_decay": 2**-15, "label_smoothing": 0.1, "warmup": 5},
}
DROPS = {
    "cifar-resnet": (80, 120),
    "cifar-vgg": (60, 120),
    "gem-miner": (80, 120),
    "tiny-imagenet": (100, 150),
}
COSINE = {"conv", "imagenet"}
OURS = {"smoke", "lite"}


def recipe(name: str) -> Recipe:
    found = get(name, "recipes")
    assert isinstance(found, Recipe)
    return found


def test_every_recipe_is_here() -> None:
    """A recipe is either ours or one of the protocols below."""
    assert set(names("recipes")) == PROTOCOLS.keys() | OURS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_numbers(name: str) -> None:
    """Epochs, batch, rates and decay are the published ones, by SGD."""
    found = recipe(name)
    assert {key: getattr(found, key) for key in PROTOCOLS[name]} == PROTOCOLS[name]
    assert found.optimizer == "sgd"
    assert found.nesterov == (name == "cifar-vgg")
    assert found.augment == ("none" if name == "lenet-mnist" else "crop-flip")


@pytest.mark.parametrize("name", DROPS)
def test_the_drops(name: str) -> None:
    """The rate is a tenth from the first printed epoch on, a hundredth from the second."""
    found, (first, second) = recipe(name), DROPS[name]
    rates = [found.lr_at(epoch) for epoch in range(found.epochs)]
    expected = [found.lr] * first + [found.lr / 10] * (second - first)
    assert rates == pytest.approx(expected + [found.lr / 100] * (found.epochs - second))


@pytest.mark.parametrize("name", sorted(PROTOCOLS.keys() - DROPS.keys()))
def test_the_schedules_without_drops(name: str) -> None:
    """The others follow a cosine or stay where they are."""
    assert recipe(name).schedule == ("cosine" if name in COSINE else "constant")
    assert recipe(name).drops == ()


def test_warmup_reaches_the_full_rate() -> None:
    """ImageNet's rate rises for five epochs, in equal steps, to its peak."""
    rates = [recipe("imagenet").lr_at(epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.0512, 0.1024, 0.1536, 0.2048, 0.256, 0.256])

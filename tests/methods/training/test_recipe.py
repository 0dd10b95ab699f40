"""Recipes: learning rates by epoch, and what is out of range."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from paibench.methods.core.registry import UserError
from paibench.methods.training.recipe import Recipe


def rates(**fields: Any) -> list[float]:
    recipe = Recipe(**fields)
    return [recipe.lr_at(epoch) for epoch in range(recipe.epochs)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"epochs": 3, "lr": 0.2}, [0.2, 0.2, 0.2]),
        (
            {"epochs": 8, "lr": 1.0, "schedule": "multistep", "drops": (0.5, 0.75)},
            [1.0] * 4 + [0.1] * 2 + [0.1**2] * 2,
        ),
        (
            {"epochs": 4, "lr": 1.0, "schedule": "multistep", "drops": (0.5,), "drop_factor": 0.25},
            [1.0, 1.0, 0.25, 0.25],
        ),
        (
            {"epochs": 5, "lr": 1.0, "schedule": "multistep", "drops": (0.5,), "warmup": 2},
            [0.5, 1.0, 0.1, 0.1, 0.1],
        ),
        ({"epochs": 4, "lr": 0.8, "warmup": 3}, [0.8 / 3, 1.6 / 3, 2.4 / 3, 0.8]),
        ({"epochs": 3, "lr": 1.0, "drops": (0.5,)}, [1.0, 1.0, 1.0]),
    ],
    ids=["constant", "two drops", "factor", "half epoch", "warmup", "drops need multistep"],
)
def test_rates(fields: dict[str, Any], expected: list[float]) -> None:
    """The learning rate is set once an epoch, by the schedule."""
    assert rates(**fields) == pytest.approx(expected, rel=1e-15)


def test_published_drops() -> None:
    """Drops at 80 and 120 of 160 epochs fall in these epochs, and at 91 and 136 of 182 too."""
    for epochs, drops in {160: (80, 120), 182: (91, 136)}.items():
        values = rates(
            epochs=epochs, schedule="multistep", drops=tuple(drop / epochs for drop in drops)
        )
        assert [e for e in range(1, epochs) if values[e] < values[e - 1]] == list(drops)


@pytest.mark.parametrize("warmup", [0, 2])
def test_cosine(warmup: int) -> None:
    """After the warmup the rate falls along half a cosine that would reach 0 after the end."""
    values = rates(epochs=10, lr=0.5, schedule="cosine", warmup=warmup)[warmup:]
    long = 10 - warmup
    assert values == pytest.approx(
        [0.5 * math.cos(math.pi * e / long / 2) ** 2 for e in range(long)]
    )
    assert values[0] == 0.5
    assert all(after < before for before, after in zip(values, values[1:], strict=False))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch", 1),
        ("lr", 0.0),
        ("lr", math.inf),
        ("lr", math.nan),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("weight_decay", math.inf),
        ("drops", (0.5, 1.0)),
        ("drops", (0.0,)),
        ("drop_factor", 0.0),
        ("drop_factor", 2.0),
        ("warmup", -1),
        ("warmup", 10),
        ("label_smoothing", 1.0),
        ("epochs", 2.5),
        ("epochs", True),
        ("epochs", "10"),
        ("lr", None),
        ("optimizer", "lion"),
        ("drops", [0.5]),
        ("drops", ("half",)),
        ("nesterov", 1),
    ],
)
def test_out_of_range(field: str, value: object) -> None:
    """A field that makes no sense is named in one line."""
    fields: dict[str, Any] = {"epochs": 10, field: value}
    with pytest.raises(UserError, match=f"^recipe: {field} "):
        Recipe(**fields)


def test_nesterov_needs_momentum() -> None:
    """Two fields that exclude each other are refused when the recipe is made."""
    with pytest.raises(UserError, match=r"^recipe: nesterov = True needs a momentum above 0$"):
        Recipe(epochs=1, momentum=0.0, nesterov=True)


def test_recipes_are_values() -> None:
    """Recipes compare and hash by their fields, and are changed by making another."""
    recipe = Recipe(epochs=2, drops=(0.5,))
    assert recipe == Recipe(epochs=2, drops=(0.5,))
    assert len({recipe, Recipe(epochs=2, drops=(0.5,)), replace(recipe, lr=0.3)}) == 2
    with pytest.raises(FrozenInstanceError):
        recipe.lr = 0.3  # type: ignore[misc]

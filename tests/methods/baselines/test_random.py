"""Random masks: exact totals, and the densities per layer that each reading asks for."""

from typing import Any

import pytest
import torch
from torch import nn

from paibench.methods.baselines.random import random
from paibench.methods.core.mask import density, layer_counts, prunable, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select

SIZES = {"0.weight": 216, "2.weight": 4608, "5.weight": 6400, "7.weight": 1000}


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def task(seed: int = 0) -> Task:
    return Task.of(torch.zeros(10, 3, 5, 5), torch.arange(10), classes=10, seed=seed)


def counts(wanted: float, **options: Any) -> dict[str, int]:
    found = random(net(), task(), wanted, **options)
    assert found.kept is not None
    mask = select(found, net(), wanted)
    assert layer_counts(mask) == dict(found.kept)
    return dict(found.kept)


LAYERS = pytest.mark.parametrize(
    "layers", ["uniform", "erk", "er", "balanced", "igq", "smart_ratio", "smart_ratio_vgg"]
)


@LAYERS
@pytest.mark.parametrize("wanted", [1.0, 0.7, 0.301, 0.05, 0.0009])
def test_total(layers: str, wanted: float) -> None:
    """Every reading keeps the exact total and no more than a layer has."""
    if layers.startswith("smart_ratio") and wanted * 12_224 < 300:
        with pytest.raises(UserError, match=f"^{layers} fixes 300 weights of 7.weight"):
            counts(wanted, layers=layers)
        return
    found = counts(wanted, layers=layers)
    assert sum(found.values()) == round(wanted * 12_224)
    assert all(kept <= SIZES[name] for name, kept in found.items())


@LAYERS
def test_only_shapes_matter(layers: Any) -> None:
    """Counts per layer depend neither on weights nor on the seed."""
    found = random(net(1), task(1), 0.1, layers=layers)
    assert found.kept == counts(0.1, layers=layers)


def test_uniform() -> None:
    """Uniform gives each layer its density, within one weight."""
    found = counts(0.1234, layers="uniform")
    assert all(abs(kept - 0.1234 * SIZES[name]) < 1 for name, kept in found.items())


@pytest.mark.parametrize(
    ("layers", "power", "ratios"),
    [
        ("erk", 1.0, [17 / 216, 78 / 4608, 164 / 6400, 110 / 1000]),
        ("er", 1.0, [11 / 24, 72 / 512, 164 / 6400, 110 / 1000]),
        ("erk", 2.0, [(17 / 216) ** 2, (78 / 4608) ** 2, (164 / 6400) ** 2, 0.0121]),
        ("balanced", 1.0, [1 / 216, 1 / 4608, 1 / 6400, 1 / 1000]),
    ],
    ids=["erk", "er", "erk squared", "balanced"],
)
def test_ratios(layers: str, power: float, ratios: list[float]) -> None:
    """Below saturation layer densities are in the ratio of the formula, within one weight."""
    found = counts(0.02, layers=layers, power=power)
    unit = sum(found.values()) / sum(r * n for r, n in zip(ratios, SIZES.values(), strict=True))
    for ratio, (name, kept) in zip(ratios, found.items(), strict=True):
        assert abs(kept - unit * ratio * SIZES[name]) < 1


def test_solved_again_after_clipping() -> None:
    """Where ERK asks for more than a layer has, the rest is shared out among the others.

    At density 0.4 the scale that ignores saturation would fill two layers beyond 1; with both
    dense, the two large ones are left in their own ratio.
    """
    found = counts(0.4, layers="erk")
    assert (found["0.weight"], found["7.weight"]) == (216, 1000)
    left = round(0.4 * 12_224) - 1216
    assert found["2.weight"] == round(left * 78 / (78 + 164))
    assert found["5.weight"] == round(left * 164 / (78 + 164))


def test_balanced_gives_its_surplus_away() -> None:
    """Equal numbers in each layer; what the smallest cannot take goes to the other three."""
    assert counts(4 * 150 / 12_224, layers="balanced") == dict.fromkeys(SIZES, 150)
    assert counts(3216 / 12_224, layers="balanced") == dict.fromkeys(SIZES, 1000) | {
        "0.weight": 216
    }


def test_wide_layers_are_sparser() -> None:
    """Under ERK a layer with more weights has the lower density, but for its sides."""
    found = counts(0.1, layers="erk")
    densities = [found[name] / SIZES[name] for name in SIZES]
    assert densities[3] > densities[0] > densities[2] > densities[1]


def test_seeds() -> None:
    """Two seeds agree on a weight that one keeps with the probability of the density."""
    first, second = (select(random(net(), task(s), 0.3), net(), 0.3) for s in (1, 2))
    both = sum(int((first[name] & second[name]).sum()) for name in first)
    assert both / (0.3 * 12_224) == pytest.approx(0.3, abs=0.03)


def test_global_densities_are_even() -> None:
    """By lot over all layers, each layer's density is the whole's but for chance."""
    mask = select(random(net(), task(), 0.3), net(), 0.3)
    assert random(net(), task(), 0.3).kept is None
    for name, kept in layer_counts(mask).items():
        assert kept / SIZES[name] == pytest.approx(0.3, abs=0.1)
    assert density(mask) == round(0.3 * 12_224) / total(prunable(net()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "erk", "power": -1.0}, "power = -1.0 is out of range"),
        ({"layers": "erk", "power": float("nan")}, "power = nan is out of range"),
        ({"layers": "uniform", "power": 2.0}, "power has no effect with layers = 'uniform'"),
    ],
    ids=["negative", "nan", "without effect"],
)
def test_power(options: dict[str, Any], message: str) -> None:
    """A power that is out of range or would be ignored is refused."""
    with pytest.raises(UserError, match=f"^{message}"):
        random(net(), task(), 0.1, **options)

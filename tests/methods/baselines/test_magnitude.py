"""Magnitude: the top of |w|, over all layers or in each."""

import pytest
import torch
from torch import nn

from paibench.methods.baselines.magnitude import magnitude
from paibench.methods.core.mask import Mask, collapsed, flatten, layer_counts, prunable
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 30), nn.Linear(30, 4))


def task() -> Task:
    return Task.of(torch.zeros(4, 8), torch.arange(4), classes=4)


def mask(net: nn.Module, density: float) -> Mask:
    return select(magnitude(net, task(), density), net, density)


@pytest.mark.parametrize("density", [0.9, 0.25, 0.01])
def test_top(density: float) -> None:
    """Everything that is pruned is below everything that is kept."""
    kept, weights = flatten(mask(net(), density)), flatten(prunable(net())).abs()
    assert int(kept.sum()) == round(density * 880)
    assert float(weights[kept].min()) > float(weights[~kept].max())


def test_signs_and_scale_do_not_matter() -> None:
    """Flipped signs and twice the scale leave the mask as it is."""
    other = net()
    with torch.no_grad():
        other.get_parameter("0.weight").mul_(-2)
        other.get_parameter("2.weight").mul_(2)
        other.get_parameter("3.weight").mul_(-2)
    first, second = mask(net(), 0.2), mask(other, 0.2)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_constant_signs() -> None:
    """Weights that are all +s or -s, with one s a layer, fall in whole layers by s."""
    constant = net()
    with torch.no_grad():
        for place, size in ((0, 0.2), (2, 0.1), (3, 0.3)):
            weight = constant.get_parameter(f"{place}.weight")
            weight.copy_(size * torch.where(weight < 0, -1, 1))
    found = mask(constant, 280 / 880)
    assert layer_counts(found) == {"0.weight": 160, "2.weight": 0, "3.weight": 120}
    assert collapsed(found) == ["2.weight"]


def test_a_lot_decides_among_equal_weights() -> None:
    """Of equal weights, each layer and each half of a layer keep about their share."""
    constant = net()
    with torch.no_grad():
        for weight in prunable(constant).values():
            weight.fill_(0.5)
    kept = flatten(mask(constant, 0.5))
    assert int(kept.sum()) == 440
    for part in kept.view(8, 110):
        assert abs(int(part.sum()) - 55) < 5 * 110**0.5 / 2


def test_uniform() -> None:
    """With `uniform` each layer keeps its own largest, at one density."""
    found = select(magnitude(net(), task(), 0.25, layers="uniform"), net(), 0.25)
    assert layer_counts(found) == {"0.weight": 40, "2.weight": 150, "3.weight": 30}
    for name, weight in prunable(net()).items():
        largest = weight.detach().abs()
        assert float(largest[found[name]].min()) > float(largest[~found[name]].max())

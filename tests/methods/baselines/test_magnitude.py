"""Magnitude: the top of |w|, over all layers or in each."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.baselines.magnitude import lamp, magnitude
from paibench.methods.core.mask import Mask, collapsed, flatten, layer_counts, prunable
from paibench.methods.core.registry import UserError
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


def check_lamp(score: Callable[[Tensor], Tensor]) -> None:
    """Compare with the sum over all entries that are not smaller, entry by entry."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 9, generator=draw).round(decimals=1)  # with equal entries, and a 0
    weight[0, 0], weight[1, 1] = 0, -weight[2, 2]
    squares = weight.double().square()
    expected = [
        float(each / squares[squares >= each].sum()) if each > 0 else 0.0
        for each in squares.flatten()
    ]
    torch.testing.assert_close(score(weight).flatten().tolist(), expected, rtol=1e-12, atol=0)


def test_lamp() -> None:
    """The score is w^2 over the sum of the squares that are not smaller."""
    check_lamp(lamp)
    assert float(lamp(torch.zeros(3, 2)).max()) == 0


def test_the_check_sees_another_score() -> None:
    """Shares of the whole layer, and squares themselves, fail the check."""
    for wrong in (lambda w: w.double().square() / w.double().square().sum(), torch.square):
        with pytest.raises(AssertionError):
            check_lamp(wrong)


def test_lamp_empties_no_layer() -> None:
    """Each layer keeps its largest weight if there is one for each; scales do not matter."""
    scaled = net()
    with torch.no_grad():
        scaled.get_parameter("2.weight").mul_(1e-4)
    masks = [
        select(magnitude(each, task(), 0.02, score="lamp"), each, 0.02) for each in (net(), scaled)
    ]
    assert collapsed(masks[0]) == []
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert "2.weight" in collapsed(select(magnitude(scaled, task(), 0.02), scaled, 0.02))
    with pytest.raises(UserError, match="^score = 'lamp' has no effect with layers = 'uniform'"):
        magnitude(net(), task(), 0.2, score="lamp", layers="uniform")

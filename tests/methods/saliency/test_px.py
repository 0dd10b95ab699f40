"""PX against sums over paths that are written out, and against SynFlow for its data-free half."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import flatten, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select
from paibench.methods.saliency.px import Paths, px
from paibench.methods.saliency.synflow import synflow

SIZES = (3, 4, 2)


def net(*, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(4)
    layers = [
        nn.Flatten(),
        nn.Linear(3, 4, bias=False),
        nn.BatchNorm1d(4) if norm else nn.Identity(),
    ]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(4, 2, bias=False)).double()


def points(count: int = 10) -> Task:
    draw = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, 1, 1, 3, generator=draw, dtype=torch.float64)
    return Task.of(inputs, torch.arange(count) % 2, classes=2)


def sums_over_paths(*, data: bool, signed: bool) -> list[Tensor]:
    """Return dR/d(weight of the first network), path by path and example by example."""
    first, last = (weight.detach() for weight in prunable(net()).values())
    slopes = [torch.zeros_like(first), torch.zeros_like(last)]
    end = last if signed else last.square()
    for inputs, _ in points().batches(per_class=5):
        for x in inputs.flatten(1) if data else torch.ones(1, 3):
            is_open = (first @ x.double() > 0).double() if data else torch.ones(4)
            # the second network: squared inputs, weights of one (or the classifier as it is)
            taken = (x.square().sum() * is_open) if data else torch.ones(4)
            second = (last if signed else torch.ones_like(last)) @ taken if data else torch.ones(2)
            for i, h, o in itertools.product(*map(range, SIZES)):
                slopes[0][h, i] += end[o, h] * second[o]
                slopes[1][o, h] += first[h, i] ** 2 * second[o]
        if not data:
            break
    return slopes


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("data", [True, False])
def test_sums_over_paths(data: bool, signed: bool) -> None:
    """The derivatives are the sums over all paths, weighed by the examples that take them."""
    paths = Paths(net(), "eval", squares_last=not signed)
    squares = flatten(paths.weights).square()
    found = [torch.zeros_like(weight) for weight in paths.weights.values()]
    batches = [inputs for inputs, _ in points().batches(per_class=5)]
    for inputs in batches if data else [torch.ones(1, 1, 1, 3, dtype=torch.float64)]:
        found = [
            a + b for a, b in zip(found, paths.gradients(squares, inputs, data=data), strict=True)
        ]
    for ours, expected in zip(found, sums_over_paths(data=data, signed=signed), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_the_sums_see_other_readings() -> None:
    """A squared classifier, and rectifiers that are always open, give other sums."""
    assert not torch.allclose(
        sums_over_paths(data=True, signed=True)[0], sums_over_paths(data=True, signed=False)[0]
    )
    with_data, without = (sums_over_paths(data=each, signed=True)[1] for each in (True, False))
    assert not torch.allclose(with_data / with_data.sum(), without / without.sum())


@pytest.mark.parametrize("density", [0.5, 0.2])
def test_without_data_it_is_synflow_with_squared_weights(density: float) -> None:
    """The mask is that of SynFlow for the network whose weights are the squares."""
    squared = net()
    with torch.no_grad():
        for weight in prunable(squared).values():
            weight.square_()
    expected = select(synflow(squared, points(), density, iterations=7), squared, density)
    found = px(net(), points(), density, rounds=7, data=False, classifier="squared")
    assert torch.equal(flatten(select(found, net(), density)), flatten(expected))


def test_what_has_no_say() -> None:
    """Signs change no score without data; labels never do."""
    flipped = net()
    with torch.no_grad():
        for weight in prunable(flipped).values():
            weight.neg_()
    plain, other = (
        flatten(px(each, points(), 0.3, rounds=3, data=False).values) for each in (net(), flipped)
    )
    assert torch.equal(plain, other)
    relabelled = points()
    relabelled._data.labels.copy_(1 - relabelled._data.labels)
    one, two = (
        flatten(select(px(net(), work, 0.3, rounds=3), net(), 0.3))
        for work in (points(), relabelled)
    )
    assert torch.equal(one, two)


def test_no_path() -> None:
    """A network through which no path leads is refused."""
    cut = net()
    with torch.no_grad():
        cut.get_parameter("1.weight").zero_()
    with pytest.raises(UserError, match="^px: no path leads from the input to the output"):
        px(cut, points(), 0.5, rounds=2)


def test_a_batch_of_one() -> None:
    """Batch norms that have a single example say so."""
    with pytest.raises(UserError, match="^batch norms cannot use the statistics of 1 example"):
        px(net(norm=True), points(), 0.5, rounds=2, batch=1)


@pytest.mark.parametrize(("options", "cost"), [({}, (90, 30)), ({"data": False}, (3, 3))])
def test_cost(options: Any, cost: tuple[int, int]) -> None:
    """In each round, an example passes three networks forward and one backward; or one of ones."""
    work = points()
    px(net(), work, 0.5, rounds=3, per_class=5, **options)
    assert (work.cost.forward, work.cost.backward) == cost

"""DPaI: the number of paths, dead units, and what the search reaches."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.baselines.random import random
from paibench.methods.core.mask import Mask, flatten, full, layer_counts, prunable
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select
from paibench.methods.saliency.positive import Flow
from paibench.methods.topology.dpai import balanced, dpai, path_gradients

SIZES = (5, 8, 8, 3)


def net(sizes: tuple[int, ...] = SIZES) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def points(features: int = SIZES[0], seed: int = 0) -> Task:
    return Task.of(torch.zeros(6, 1, 1, features), torch.arange(6) % 3, classes=3, seed=seed)


def paths_of(mask: Mask) -> list[tuple[int, ...]]:
    """Return all paths from an input to an output, unit by unit."""
    layers = list(mask.values())
    return [
        units
        for units in itertools.product(*map(range, SIZES))
        if all(
            bool(layer[b, a])
            for layer, (a, b) in zip(layers, itertools.pairwise(units), strict=True)
        )
    ]


def gradients_of(mask: Mask) -> list[Tensor]:
    flow = Flow(net(), (1, 1, SIZES[0]), torch.float64)
    return path_gradients(flow, mask)


def check_shares(found: list[Tensor], mask: Mask) -> None:
    """Compare the gradients of kept weights with the shares of the paths through them."""
    paths = paths_of(mask)
    for place, (slope, layer) in enumerate(zip(found, mask.values(), strict=True)):
        for b, a in layer.nonzero().tolist():
            through = sum(path[place] == a and path[place + 1] == b for path in paths)
            assert float(slope[b, a]) == pytest.approx(through / len(paths), abs=1e-12)


def test_shares_of_paths() -> None:
    """The gradient of the log of the number of paths is the share of them through a weight."""
    mask = select(random(net(), points(), 0.4), net(), 0.4)
    assert len(paths_of(mask)) > 10
    check_shares(gradients_of(mask), mask)


def check_gains(found: list[Tensor], mask: Mask) -> None:
    """Compare the gradient of each pruned weight with the share of paths that it would add."""
    before = len(paths_of(mask))
    for slope, (name, layer) in zip(found, mask.items(), strict=True):
        for b, a in (~layer).nonzero().tolist():
            more = layer.clone()
            more[b, a] = True
            gain = len(paths_of(mask | {name: more})) - before
            assert float(slope[b, a]) == pytest.approx(gain / before, abs=1e-12)


def with_a_dead_unit() -> Mask:
    """A mask in which nothing reaches a unit from which paths lead on."""
    mask = select(random(net(), points(), 0.4), net(), 0.4)
    first, second, _ = mask.values()
    first[3], second[:, 3] = False, True
    return mask


def test_what_a_pruned_weight_would_add() -> None:
    """This holds for weights into dead units too, which the search is to bring back to life."""
    mask = with_a_dead_unit()
    found = gradients_of(mask)
    check_gains(found, mask)
    assert bool((found[0][3] > 0).all())


def test_the_check_sees_the_slope_of_a_rectifier_at_0() -> None:
    """The flow of SynFlow through rectifiers does not see the paths behind a dead unit."""
    mask = with_a_dead_unit()
    flow = Flow(net(), (1, 1, SIZES[0]), torch.float64)
    for name, weight in flow.weights.items():
        weight.data.copy_(mask[name])
    total = flow()
    slopes = torch.autograd.grad(total, list(flow.weights.values()))
    with pytest.raises(AssertionError):
        check_gains([slope / total.detach() for slope in slopes], mask)


def test_the_check_sees_weights() -> None:
    """The flow of SynFlow, with weights in place of the mask, fails the check."""
    mask = select(random(net(), points(), 0.4), net(), 0.4)
    flow = Flow(net(), (1, 1, SIZES[0]), torch.float64)
    values = {name: flow.weights[name].detach() * mask[name] for name in mask}
    with pytest.raises(AssertionError):
        check_shares(path_gradients(flow, values), mask)


def test_more_paths_than_a_number_can_hold() -> None:
    """The number of paths does not overflow: 16 * 20^255 of them, over 10^330, are counted."""
    sizes = (4, *[20] * 255, 4)
    deep = net(sizes)
    flow = Flow(deep, (1, 1, 4), torch.float64)
    masks = full(prunable(deep))
    slopes = path_gradients(flow, masks)
    assert all(float(slope.sum()) == pytest.approx(1, abs=1e-9) for slope in slopes)


def test_no_path() -> None:
    """Without a path there is no direction, and no NaN."""
    mask = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in prunable(net()).items()}
    assert not any(bool(slope.any()) for slope in gradients_of(mask))


def test_dead_units_and_kernels() -> None:
    """Only weights into units, and kernels, without a path get that part of the gradient."""
    slope = torch.rand(3, 2, 2, 2, dtype=torch.float64) + 1
    mask = torch.zeros(3, 2, 2, 2, dtype=torch.float64)
    mask[0, 0, 0, 0] = 1  # unit 0 has a path, through its kernel 0 alone
    for beta in (0.0, 1.0):
        found = balanced(slope, mask, 1.0, beta) != 0
        assert bool(found[1:].all())
        assert not bool(found[0, 0].any())
        assert bool(found[0, 1].all()) == (beta == 1)
    assert torch.equal(balanced(slope, mask, 0.0, 0.5), slope)


def alive(mask: Mask) -> int:
    """Return the number of units that lie on a path."""
    return len({(place, unit) for path in paths_of(mask) for place, unit in enumerate(path)})


def test_the_search() -> None:
    """It ends with more paths than random masks of its quotas, and with more units on them."""

    def found(seed: int, steps: int) -> Mask:
        return select(dpai(net(), points(seed=seed), 0.2, steps=steps), net(), 0.2)

    before, after = ([found(seed, steps) for seed in range(4)] for steps in (1, 300))
    drawn = select(random(net(), points(), 0.2, layers="erk"), net(), 0.2)
    assert all(layer_counts(each) == layer_counts(drawn) for each in before + after)
    paths = [sorted(len(paths_of(each)) for each in masks) for masks in (before, after)]
    assert paths[1][0] > paths[0][-1]
    assert sum(map(alive, after)) > sum(map(alive, before))


def test_neither_data_nor_weights() -> None:
    """Other weights and data give the same mask; another seed gives another."""

    def mask(given: Task, **changed: Any) -> Tensor:
        network = net()
        with torch.no_grad():
            for weight in prunable(network).values():
                weight.mul_(changed.get("scale", 1.0))
        return flatten(select(dpai(network, given, 0.2, steps=5), network, 0.2))

    assert torch.equal(mask(points()), mask(points(), scale=-3.0))
    assert not torch.equal(mask(points()), mask(points(seed=1)))

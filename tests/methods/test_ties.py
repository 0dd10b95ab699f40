"""Ties: no method keeps weights because of their place or their name, and ties are counted."""

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paibench.methods.conformance.networks import network, task
from paibench.methods.core.mask import flatten, layer_counts, num_kept, prunable, total
from paibench.methods.core.registry import get, names
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, as_ticket, count_ties, select

METHODS = [name for name in names() if name != "dense"]


def signed_constants(net: nn.Module) -> nn.Module:
    """Make the weights of each layer plus or minus one size, as `--init signed_constant` does."""
    with torch.no_grad():
        for weight in prunable(net).values():
            weight.copy_(weight.sign() * (2 / weight[0].numel()) ** 0.5)
    return net


def chain() -> nn.Module:
    """Three layers of 1,200, 1,600 and 400 signed constants, without biases."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(30, 40, bias=False), nn.Linear(40, 40, bias=False)]
        last = nn.Linear(40, 10, bias=False)
    return signed_constants(nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), last))


def points(seed: int) -> Task:
    inputs = torch.randn(40, 1, 1, 30, generator=torch.Generator().manual_seed(7))
    return Task.of(inputs, torch.arange(40) % 10, classes=10, seed=seed)


def halves(marks: Tensor) -> Tensor:
    """How many more are marked in the first half of a layer, by rows, than in the second."""
    first, second = marks.flatten().double().tensor_split(2)
    return first.sum() - second.sum()


@pytest.mark.parametrize(
    ("method", "density"),
    [
        *(("magnitude", density) for density in (0.7, 0.4, 0.2, 0.05)),
        *(("synflow", density) for density in (0.4, 0.05)),
    ],
)
def test_signed_constants_lose_no_rows(method: str, density: float) -> None:
    """If all weights of a layer tie, its first half keeps as much as its second, over seeds."""
    net, gaps, ties = nn.Sequential(nn.Flatten(), chain()), [], 0
    for seed in range(24):
        found = get(method)(copy.deepcopy(net), points(seed), density)
        mask = select(found, net, density, seed=seed)
        ties += count_ties(found, mask) or 0
        gaps.append(torch.stack([halves(kept) for kept in mask.values()]))
    mean, deviation = torch.stack(gaps).mean(0), torch.stack(gaps).std(0)
    assert ties > 0
    assert bool((deviation > 0).any())
    assert bool((mean.abs() <= 5 * deviation / 24**0.5).all())


@pytest.mark.parametrize(("method", "density"), [("grasp", 0.45), ("snip", 0.7)])
def test_zero_scores_are_kept_by_a_lot(method: str, density: float) -> None:
    """Of many weights with score 0, no half of a layer and no layer keeps more than its share."""
    net = nn.Sequential(nn.Flatten(), chain())
    with torch.no_grad():
        # half of the units are silent: no gradient into them, and none out of them
        net.get_parameter("1.0.weight")[::2] = 0
    found = get(method)(copy.deepcopy(net), points(0), density)
    mask = select(found, net, density, seed=3)
    zero = {name: score == 0 for name, score in found.values.items()}
    assert count_ties(found, mask) == int(flatten(zero).sum()) >= 600 + 800
    kept = {name: mask[name] & zero[name] for name in mask}
    share = int(flatten(kept).sum()) / int(flatten(zero).sum())
    assert 0.1 < share < 0.9
    for name in list(zero)[:2]:
        count = int(zero[name].sum())
        sigma = (count * share * (1 - share)) ** 0.5
        assert abs(int(kept[name].sum()) - share * count) < 5 * sigma
        assert abs(float(halves(kept[name]) - share * halves(zero[name]))) < 5 * sigma


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 2), density=st.floats(0.01, 0.99))
@pytest.mark.parametrize("method", METHODS)
def test_a_lot_decides_nothing_but_ties(method: str, seed: int, density: float) -> None:
    """Masks are exact and repeat; with another seed for the lot, only tied weights differ."""
    net = signed_constants(network("bias-free"))
    found = as_ticket(get(method)(copy.deepcopy(net), task(seed), density)).mask
    mask, again, other = (select(found, net, density, seed=s) for s in (seed, seed, seed + 1))
    assert int(flatten(mask).sum()) == num_kept(density, total(mask))
    assert torch.equal(flatten(mask), flatten(again))
    ties = count_ties(found, mask)
    assert isinstance(found, Scores) and ties is not None
    assert (ties == 0) or ties >= 2
    moved = flatten(mask) != flatten(other)
    assert int(moved.sum()) <= ties
    if found.kept is None:
        assert len(set(flatten(found.values)[moved].tolist())) <= 1
    else:
        assert layer_counts(mask) == found.kept == layer_counts(other)


@pytest.mark.parametrize("method", METHODS)
def test_names_decide_nothing(method: str) -> None:
    """The same network with other names, in another alphabetical order, has the same mask."""
    net = signed_constants(network("bias-free"))
    layers = list(copy.deepcopy(net).children())
    renamed = nn.Sequential(OrderedDict(zip(["z", "c", "b", "a"], layers, strict=True)))
    one, other = (
        select(as_ticket(get(method)(copy.deepcopy(each), task(), 0.3)).mask, each, 0.3)
        for each in (net, renamed)
    )
    assert list(other) == ["c.weight", "a.weight"]
    assert torch.equal(flatten(one), flatten(other))

"""NTK-SAP against closed forms on linear networks, and its independence of data and weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.conformance.networks import network, task
from paibench.methods.core.mask import flatten, prunable
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select
from paibench.methods.saliency.ntk_sap import Kernel, ntk_sap

INPUTS = 6


def linear(outputs: int = 4) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, outputs, bias=False)).double()


def points(seed: int = 0) -> Task:
    draw = torch.Generator().manual_seed(5)
    inputs = torch.randn(40, 1, 1, INPUTS, generator=draw, dtype=torch.float64)
    return Task.of(inputs, torch.arange(40) % 4, classes=4, seed=seed)


def mean_slope(draws: int, epsilon: float) -> Tensor:
    """Return the mean derivative over many batches of eight inputs, each with its own change."""
    kernel = Kernel(linear(), points(), epsilon, shuffles=True)
    gates = torch.ones(4 * INPUTS, dtype=torch.float64)
    return torch.stack([kernel.gradient(gates, 8) for _ in range(draws)]).mean(0)


def slope(epsilon: float, size: int, seed: int = 0, net: nn.Module | None = None) -> Tensor:
    """Return the derivative with respect to gates that are all 1, for one batch of noise."""
    net = net or linear()
    kernel = Kernel(net, points(seed), epsilon, shuffles=True)
    return kernel.gradient(torch.ones_like(flatten(prunable(net))), size)


def check_closed_form(found: Tensor, epsilon: float, size: int) -> None:
    """On a linear layer each gate has the expected derivative 2 * epsilon^2 * size."""
    torch.testing.assert_close(
        found.mean(), torch.tensor(2 * epsilon**2 * size).double(), rtol=0.03, atol=0
    )


def test_closed_form() -> None:
    """The change of the output is epsilon * D z, so that a gate has 2 * epsilon^2 * sum of z^2."""
    check_closed_form(mean_slope(4_000, 0.01), 0.01, 8)


def test_the_closed_form_sees_a_wrong_factor() -> None:
    """Half of the derivative, or another power of epsilon, fails."""
    found = mean_slope(500, 0.01)
    for wrong in (found / 2, found / 0.01):
        with pytest.raises(AssertionError):
            check_closed_form(wrong, 0.01, 8)


def test_scale_of_the_change() -> None:
    """Scores grow with the square of epsilon: exactly in a linear layer, nearly in deep ones."""
    torch.testing.assert_close(slope(0.02, 64), 4 * slope(0.01, 64), rtol=1e-9, atol=0)
    deep = network("plain", torch.float64)
    given = [task(dtype=torch.float64) for _ in range(2)]
    small, large = (
        Kernel(deep, work, epsilon, shuffles=False).gradient(
            torch.ones_like(flatten(prunable(deep))), 64
        )
        for work, epsilon in zip(given, (1e-5, 2e-5), strict=True)
    )
    assert float((large - 4 * small).abs().max() / large.abs().max()) < 1e-3


def test_pruned_gates_have_no_score() -> None:
    """A gate of 0 has score 0 in all later rounds: masks are nested."""
    net = network("plain")
    scores = flatten(ntk_sap(net, task(), 0.05, rounds=6, repeats=1).values)
    # numbers below 5 are the rounds in which weights were pruned
    assert [int((scores.floor() == done).sum()) > 0 for done in range(5)] == [True] * 5


@pytest.mark.parametrize("kind", ["plain", "batch-norm"])
def test_neither_data_nor_the_place_of_weights(kind: str) -> None:
    """Other examples and weights in another order give the same mask; another seed does not."""

    def mask(seed: int = 0, *, other: bool = False, **options: Any) -> Tensor:
        net, work = network(kind), task(seed)
        if other:
            work._data = Task.of(torch.rand(30, 2, 6, 6), torch.arange(30) % 3, classes=3)._data
        found = ntk_sap(net, work, 0.2, rounds=3, **options)
        return flatten(select(found, net, 0.2))

    assert torch.equal(mask(), mask(other=True))
    assert not torch.equal(mask(), mask(seed=1))
    assert not torch.equal(mask(), mask(weights="kept"))


def test_statistics_of_the_noise() -> None:
    """Batch norms take their statistics from the unchanged network, for both networks."""
    net = network("batch-norm", torch.float64)
    kernel = Kernel(net, task(dtype=torch.float64), 1e-9, shuffles=False)
    tiny = kernel.gradient(torch.ones_like(flatten(prunable(net))), 32)
    # with statistics of their own, the networks would differ without any change of the weights
    assert float(tiny.abs().max()) < 1e-12
    assert float(tiny.abs().max()) > 0


def test_cost() -> None:
    """Inputs of noise count: two networks forward and backward, and a pass for the statistics."""
    for kind, passes in (("plain", 2), ("batch-norm", 3)):
        work = task()
        ntk_sap(network(kind), work, 0.2, rounds=3, repeats=2, per_class=4)
        assert (work.cost.forward, work.cost.backward) == (passes * 72, 2 * 72)

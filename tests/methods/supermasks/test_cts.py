"""Concrete ticket search: gates, GradBalance, objectives, and what does not change."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.conformance.networks import network, task
from paibench.methods.core.mask import flatten, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.ticket import Scores, Ticket, select
from paibench.methods.supermasks import cts as module
from paibench.methods.supermasks.cts import MARGIN, TEMPERATURE, GradBalance, cts, gates

DENSITY = 0.2


def odds(**options: Any) -> Tensor:
    found = cts(network("plain"), task(), DENSITY, batch=16, **({"epochs": 3} | options))
    assert isinstance(found, Scores)
    return flatten(found.values)


def test_gates() -> None:
    """A gate is open (above 1/2) with probability sigmoid(t * a); the noise alone is divided."""
    draw = torch.Generator().manual_seed(0)
    for log_odds in (-2.0, 0.0, 1.5):
        sample = gates(torch.full((200_000,), log_odds, dtype=torch.float64), draw)
        expected = 1 / (1 + math.exp(-TEMPERATURE * log_odds))
        assert float((sample > 0.5).double().mean()) == pytest.approx(expected, abs=0.005)
        assert 0 <= float(sample.min()) <= float(sample.max()) <= 1
    leaf = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    sample = gates(leaf, draw)
    (slope,) = torch.autograd.grad(sample.sum(), leaf)
    torch.testing.assert_close(slope, sample * (1 - sample))


def test_cold_gates_are_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a low temperature nearly all gates are 0 or 1."""
    monkeypatch.setattr(module, "TEMPERATURE", 1e-4)
    sample = gates(torch.zeros(1000, dtype=torch.float64), torch.Generator().manual_seed(0))
    assert float(((sample < 1e-6) | (sample > 1 - 1e-6)).double().mean()) > 0.99


def check_balance(balance: Any) -> None:
    """Check the multiplier and the closing gradient against their formulas, step by step."""
    kept, smoothed = 30.0, 0.0
    for step in range(40):
        draw = torch.Generator().manual_seed(step)
        log_odds = torch.randn(100, generator=draw, dtype=torch.float64) + (step - 10) / 10
        gradient = torch.randn(100, generator=draw, dtype=torch.float64)
        leaf = log_odds.clone().requires_grad_()
        excess = 100 * (leaf.sigmoid().sum() / (1.1 * kept) - 1)
        (closing,) = torch.autograd.grad(excess, leaf)
        ratio = float(gradient.norm() / closing.norm()) if float(excess.detach()) > 0 else 0.0
        smoothed = 0.99 * smoothed + 0.01 * ratio if step else ratio
        expected = gradient + smoothed * closing
        torch.testing.assert_close(balance(gradient, log_odds), expected, rtol=1e-9, atol=1e-12)
    assert smoothed > 0


def test_balance() -> None:
    """The closing gradient is the derivative of the excess; its multiplier follows the ratio."""
    check_balance(GradBalance(30.0))


def test_the_check_sees_another_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target without the margin of a tenth fails the check."""
    monkeypatch.setattr(module, "MARGIN", 1.0)
    with pytest.raises(AssertionError):
        check_balance(GradBalance(30.0))


def test_the_multiplier_starts_at_zero() -> None:
    """It is 0 until the expected count first exceeds the target, and then decays by 0.99."""
    balance, gradient = GradBalance(10.0), torch.ones(100, dtype=torch.float64)
    few, many = (torch.full((100,), each, dtype=torch.float64) for each in (-3.0, 1.0))
    assert float(few.sigmoid().sum()) < MARGIN * 10 < float(many.sigmoid().sum())
    for _ in range(3):
        assert torch.equal(balance(gradient, few), gradient)
        assert float(balance.multiplier or 0) == 0
    balance(gradient, many)
    first = balance.multiplier
    assert first is not None
    assert float(first) > 0
    balance(gradient, few)
    torch.testing.assert_close(balance.multiplier, 0.99 * first)


def test_a_constant_objective_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a gradient of the objective, the log-odds stay where they start."""
    monkeypatch.setattr(module, "_distance", lambda copy, inputs, outputs, *rest: 0 * outputs.sum())
    start = torch.tensor(DENSITY / (1 - DENSITY)).log()
    torch.testing.assert_close(odds(), start.expand_as(odds()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", ["kl", "forward_kl", "loss"])
def test_objectives(objective: Any) -> None:
    """Each objective is the formula of its name, of a batch of logits."""
    net, work = network("plain"), task()
    inputs, labels = next(iter(work.batches(size=16)))
    outputs = network("plain", seed=9)(inputs).detach()
    p, q = outputs.softmax(1), net(inputs).detach().softmax(1)
    if objective == "forward_kl":
        p, q = q, p
    expected = F.cross_entropy(outputs, labels)
    if objective != "loss":
        expected = (p * (p / q).log()).sum(1).mean()
    found = module._distance(net, inputs, outputs, labels, work, objective)
    torch.testing.assert_close(found, expected)


def test_objectives_differ() -> None:
    """The three objectives give three masks."""
    found = [odds(objective=each) for each in ("kl", "forward_kl", "loss")]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_weights_are_frozen_and_the_seed_decides() -> None:
    """Weights, biases and statistics keep their bits; the same seed gives the same log-odds."""
    net = network("batch-norm")
    before = copy.deepcopy(net.state_dict())
    cts(net, task(), DENSITY, epochs=2, batch=16)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(odds(), odds())
    other = cts(network("plain"), task(seed=1), DENSITY, epochs=3, batch=16)
    assert isinstance(other, Scores)
    assert not torch.equal(odds(), flatten(other.values))


def test_the_search_learns() -> None:
    """The masked network without training is better than one of random masks of its size."""

    def loss(mask: dict[str, Tensor]) -> float:
        net = network("plain")
        with torch.no_grad():
            for name, weight in prunable(net).items():
                weight.mul_(mask[name])
            return sum(
                float(nn.functional.cross_entropy(net(x), y)) for x, y in task().batches(size=16)
            )

    found = cts(network("plain"), task(), DENSITY, objective="loss", epochs=30, batch=16)
    assert isinstance(found, Scores)
    learned = loss(select(found, network("plain"), DENSITY))
    draw = torch.Generator().manual_seed(0)
    weights = prunable(network("plain"))
    drawn = [
        {name: torch.rand(w.shape, generator=draw) < DENSITY for name, w in weights.items()}
        for _ in range(8)
    ]
    assert learned < min(map(loss, drawn))


def test_rewinding() -> None:
    """The search runs at the weights of an epoch, and the ticket starts there."""
    net = network("plain")
    found = cts(net, task(), DENSITY, epochs=1, batch=16, rewind_epoch=1)
    initial = network("plain").state_dict()
    assert all(torch.equal(value, initial[name]) for name, value in net.state_dict().items())
    assert isinstance(found, Ticket)
    assert found.start == task().steps_per_epoch
    assert found.weights is not None
    assert not torch.equal(found.weights["0.weight"], network("plain").state_dict()["0.weight"])
    with pytest.raises(UserError, match="^cts: rewind_epoch = 3 is out of range"):
        cts(network("plain"), task(), DENSITY, rewind_epoch=3)


def test_cost() -> None:
    """Each epoch passes all examples; the divergences pass them through the dense network too."""
    for objective, passes in (("loss", 1), ("kl", 2)):
        work = task()
        cts(network("plain"), work, DENSITY, objective=objective, epochs=2, batch=16)  # type: ignore[arg-type]
        assert (work.cost.forward, work.cost.backward) == (passes * 96, 96)

"""ProsPr against SNIP, a finite difference through unrolled steps, and its first-order form."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.conformance.networks import network, task
from paibench.methods.core.mask import flatten, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.saliency.prospr import prospr
from paibench.methods.saliency.snip import snip

KINDS = ("plain", "batch-norm", "tied", "transformer", "bias-free")


def net(kind: str = "plain") -> nn.Module:
    return network(kind, torch.float64)


def work() -> Task:
    return task(dtype=torch.float64)


def scores(kind: str = "plain", **options: Any) -> Tensor:
    return flatten(prospr(net(kind), work(), 0.1, **options).values)


def loss_after(gates: dict[str, Tensor], steps: int, lr: float, momentum: float) -> float:
    """Return the loss of the plain network after plain SGD from w * gates, in torch's optimizer."""
    trained = copy.deepcopy(net())
    with torch.no_grad():
        for name, weight in prunable(trained).items():
            weight.mul_(gates[name])
    optimizer = torch.optim.SGD(trained.parameters(), lr=lr, momentum=momentum)
    (inputs, labels), *_ = work().batches(per_class=10)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(trained(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(nn.functional.cross_entropy(trained(inputs), labels).detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["full", "first"])
def test_no_step_is_snip(kind: str, order: str) -> None:
    """Without a step of training the scores are those of SNIP."""
    expected = flatten(snip(net(kind), work(), 0.1).values)
    torch.testing.assert_close(scores(kind, steps=0, order=order), expected, rtol=1e-9, atol=1e-15)


def check_slopes(found: Tensor, momentum: float) -> None:
    """Compare normalised scores with central differences of the loss after three steps."""
    ones = {name: torch.ones_like(weight) for name, weight in prunable(net()).items()}
    slopes = {name: torch.zeros_like(one) for name, one in ones.items()}
    places = [(name, i) for name, one in ones.items() for i in range(0, one.numel(), 7)]
    for name, i in places:
        moved = []
        for sign in (1, -1):
            gates = {key: one.clone() for key, one in ones.items()}
            gates[name].view(-1)[i] += sign * 1e-5
            moved.append(loss_after(gates, 3, 0.1, momentum))
        slopes[name].view(-1)[i] = abs(moved[0] - moved[1]) / 2e-5
    chosen = flatten(slopes) > 0
    ratio = flatten(slopes)[chosen] / found[chosen]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=0)


def test_full_order() -> None:
    """The score is the derivative of the loss after training, through all steps of SGD."""
    check_slopes(scores(lr=0.1, momentum=0.9, first_step="exact"), 0.9)
    check_slopes(scores(lr=0.1, momentum=0.0), 0.0)


@pytest.mark.parametrize("options", [{"order": "first"}, {"first_step": "authors"}])
def test_other_readings_are_not_this_derivative(options: dict[str, Any]) -> None:
    """The first-order form and the authors' first step leave parts of the derivative out."""
    with pytest.raises(AssertionError):
        check_slopes(scores(lr=0.1, momentum=0.9, **({"first_step": "exact"} | options)), 0.9)


def test_first_order() -> None:
    """It is |w * g| with the gradient after training, and agrees with the full one for small lr."""
    trained = net()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.3, momentum=0.9)
    (inputs, labels), *_ = work().batches(per_class=10)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(trained(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    loss = nn.functional.cross_entropy(trained(inputs), labels)
    slopes = torch.autograd.grad(loss, list(prunable(trained).values()))
    pairs = zip(prunable(net()).items(), slopes, strict=True)
    products = flatten({name: (w * slope).abs().detach() for (name, w), slope in pairs})
    found = scores(steps=2, lr=0.3, order="first")
    torch.testing.assert_close(found, products / products.sum(), rtol=1e-9, atol=1e-15)
    near = [scores(lr=1e-7, order=order) for order in ("full", "first")]
    torch.testing.assert_close(near[0], near[1], rtol=1e-3, atol=1e-9)


def test_cost() -> None:
    """Each step and the loss pass the examples forward; full order counts second passes too."""
    given = work()
    prospr(net(), given, 0.1, steps=3, per_class=4, order="first")
    assert (given.cost.forward, given.cost.backward) == (48, 48)
    given = work()
    prospr(net(), given, 0.1, steps=3, per_class=4)
    assert given.cost.forward == 48
    assert given.cost.backward >= 48


def test_fresh_examples() -> None:
    """Each step takes the next batch, so that the scores differ."""
    assert not torch.allclose(
        scores(lr=0.1, per_class=4), scores(lr=0.1, per_class=4, examples="fresh")
    )


def test_divergence() -> None:
    """A learning rate at which the steps explode is refused in one line."""
    with pytest.raises(UserError, match="the sensitivities of .* sum to"):
        scores(lr=1e200, steps=5)

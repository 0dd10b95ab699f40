"""SNIP's connection sensitivities against their definition and their symmetries."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from paibench.methods.core.mask import flatten, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import losses, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.saliency.snip import snip


def net(eps: float = 1e-5) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 6, 1, bias=False),
        nn.BatchNorm2d(6, eps=eps),
        nn.ReLU(),
        nn.Conv2d(6, 3, 3, bias=False),
        nn.BatchNorm2d(3, eps=eps),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 4),
    ).double()


def task(labels: Tensor | None = None) -> Task:
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randn(48, 2, 4, 4, generator=draw, dtype=torch.float64)
    return Task.of(inputs, torch.arange(48) % 4 if labels is None else labels, classes=4)


def test_gates() -> None:
    """The score is |dL/dc| for a gate c = 1 on each weight, normalised, exactly."""
    copy = scoring_copy(net(), "train")
    gates = {name: torch.ones_like(w, requires_grad=True) for name, w in prunable(copy).items()}
    gated = {name: gates[name] * weight for name, weight in prunable(copy).items()}
    (inputs, labels), *_ = task().batches(per_class=10)
    loss = F.cross_entropy(functional_call(copy, gated, (inputs,)), labels)
    slopes = torch.autograd.grad(loss, list(gates.values()))
    scores = snip(net(), task(), 0.1).values
    gated = {name: slope.abs() for name, slope in zip(gates, slopes, strict=True)}
    expected = flatten(gated) / flatten(gated).sum()
    torch.testing.assert_close(flatten(scores), expected, rtol=1e-13, atol=0)


def test_sum() -> None:
    """Normalised scores are not negative and sum to 1."""
    scores = flatten(snip(net(), task(), 0.1).values)
    assert float(scores.min()) >= 0
    assert float(scores.sum()) == pytest.approx(1, abs=1e-14)


def test_filters_before_a_batch_norm() -> None:
    """w * g sums to 0 over each filter before a batch norm that uses the batch, but not in eval.

    So the two weights of each filter of the first layer have equal scores in training mode.
    """
    copies = {mode: scoring_copy(net(1e-14), mode) for mode in ("train", "eval")}
    for mode, copy in copies.items():
        ((loss, _),) = losses(copy, task(), per_class=10, batch=256)
        weights = [copy.get_parameter("0.weight"), copy.get_parameter("3.weight")]
        for weight, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            flow = (weight * g).detach()
            sums = flow.flatten(1).sum(1).abs().max() / flow.abs().max()
            assert float(sums) < 1e-12 if mode == "train" else float(sums) > 1e-2
    pairs = snip(net(1e-14), task(), 0.1).values["0.weight"].view(6, 2)
    torch.testing.assert_close(pairs[:, 0], pairs[:, 1], rtol=1e-10, atol=0)
    pairs = snip(net(1e-14), task(), 0.1, mode="eval").values["0.weight"].view(6, 2)
    assert not torch.allclose(pairs[:, 0], pairs[:, 1], rtol=1e-2)


def test_scale_before_a_batch_norm() -> None:
    """Scaling a layer before a batch norm that uses the batch leaves every score as it was."""
    scaled = net(1e-14)
    with torch.no_grad():
        scaled.get_parameter("3.weight").mul_(7)
    first, second = (flatten(snip(n, task(), 0.1).values) for n in (net(1e-14), scaled))
    torch.testing.assert_close(first, second, rtol=1e-9, atol=0)


def test_absolute_value_of_the_sum_or_of_each_batch() -> None:
    """With one batch the two readings are one; with two, gradients cancel in one of them only."""
    whole, each = (
        [snip(net(), task(), 0.1, abs=when, batch=size, mode="eval").values for size in (40, 20)]
        for when in ("sum", "batch")
    )
    assert torch.equal(flatten(whole[0]), flatten(each[0]))
    torch.testing.assert_close(flatten(whole[0]), flatten(whole[1]), rtol=1e-10, atol=1e-18)
    assert not torch.allclose(flatten(each[0]), flatten(each[1]), rtol=1e-2)


def test_batches_weigh_as_their_examples() -> None:
    """A short last batch counts by its examples: 3 batches give the gradient of the whole."""
    whole, parts = (snip(net(), task(), 0.1, batch=b, mode="eval").values for b in (40, 17))
    torch.testing.assert_close(flatten(whole), flatten(parts), rtol=1e-10, atol=1e-18)


def test_labels_matter() -> None:
    """Other labels give other scores."""
    scores, others = (snip(net(), task(y), 0.1).values for y in (None, torch.arange(48) // 12))
    assert not torch.allclose(flatten(scores), flatten(others))


def test_cost() -> None:
    """Each example passes forward and backward once."""
    work = task()
    snip(net(), work, 0.1, per_class=3)
    assert (work.cost.forward, work.cost.backward) == (12, 12)


def test_no_gradient() -> None:
    """A network through which no gradient flows cannot be scored, and the message says so."""
    dead = net()
    with torch.no_grad():
        dead.get_parameter("7.weight").zero_()
        dead.get_parameter("3.weight").zero_()
        dead.get_parameter("4.bias").fill_(-1)
    with pytest.raises(UserError, match="^the sensitivities .* sum to 0.0: no gradient"):
        snip(dead, task(), 0.1)

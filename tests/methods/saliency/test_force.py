"""FORCE and Iter-SNIP against SNIP, an independent loop, and their relations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.conformance.networks import network, task
from paibench.methods.core.mask import flatten, num_kept, prunable, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, select
from paibench.methods.saliency.force import force
from paibench.methods.saliency.rounds import round_counts
from paibench.methods.saliency.snip import snip

KINDS = ("plain", "batch-norm", "tied", "transformer", "bias-free")
Finder = Callable[..., Scores]


def net(kind: str = "plain") -> nn.Module:
    return network(kind, torch.float64)


def work() -> Task:
    return task(dtype=torch.float64)


def slope_at(kind: str, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the initial weights and the gradient of the mean loss at w * mask."""
    pruned = net(kind)
    weights = prunable(pruned)
    initial = flatten(weights).detach()
    with torch.no_grad():
        for name, part in unflatten(initial * mask, weights).items():
            weights[name].copy_(part)
    (inputs, labels), *_ = work().batches(per_class=10)
    loss = nn.functional.cross_entropy(pruned.train()(inputs), labels)
    return initial, flatten(
        dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    )


def masks_of(kind: str, density: float, rounds: int, *, returns: bool) -> list[Tensor]:
    """Return the masks after each round, by the formulas of the paper."""
    mask = torch.ones_like(flatten(prunable(net(kind))))
    masks = []
    for done in range(1, rounds + 1):
        initial, slope = slope_at(kind, mask)
        scores = (initial * slope).abs() if returns else (initial * mask * slope).abs()
        kept = torch.zeros_like(mask)
        kept[scores.topk(round(density ** (done / rounds) * len(mask))).indices] = 1
        mask = kept
        masks.append(mask)
    return masks


@pytest.mark.parametrize("kind", KINDS)
def test_one_round_is_snip(kind: str) -> None:
    """FORCE has the bits of SNIP's scores, and Iter-SNIP its mask."""
    expected = snip(net(kind), work(), 0.2)
    found = force(net(kind), work(), 0.2, rounds=1)
    assert torch.equal(flatten(found.values), flatten(expected.values))
    found = force(net(kind), work(), 0.2, rounds=1, variant="iter_snip")
    masks = [flatten(select(each, net(kind), 0.2)) for each in (found, expected)]
    assert torch.equal(*masks)


def check_rounds(finder: Finder, variant: str) -> None:
    for kind in ("plain", "bias-free", "batch-norm"):
        found = select(finder(net(kind), work(), 0.1, rounds=5, variant=variant), net(kind), 0.1)
        *_, expected = masks_of(kind, 0.1, 5, returns=variant == "force")
        assert torch.equal(flatten(found).double(), expected)


@pytest.mark.parametrize("variant", ["force", "iter_snip"])
def test_rounds(variant: str) -> None:
    """Five rounds give the masks of a loop over the paper's formulas."""
    check_rounds(force, variant)


def test_another_variant_is_seen() -> None:
    """The masks of the two variants differ, so that each would fail as the other."""

    def other(*args: Any, variant: str, **options: Any) -> Scores:
        return force(*args, variant="force" if variant == "iter_snip" else "iter_snip", **options)

    for variant in ("force", "iter_snip"):
        with pytest.raises(AssertionError):
            check_rounds(other, variant)


def test_nested() -> None:
    """Masks of Iter-SNIP lie within each other; in FORCE some weight returns."""
    stay = masks_of("plain", 0.05, 8, returns=False)
    assert all(bool((b <= a).all()) for a, b in zip(stay, stay[1:], strict=False))
    back = masks_of("plain", 0.05, 8, returns=True)
    assert any(bool((b > a).any()) for a, b in zip(back, back[1:], strict=False))


def test_pruned_weights_have_scores() -> None:
    """In FORCE the scores of pruned weights are not all 0."""
    scores = force(net(), work(), 0.1, rounds=3).values
    mask = flatten(select(Scores(scores), net(), 0.1))
    assert float((flatten(scores)[~mask] > 0).double().mean()) > 0.5


@pytest.mark.parametrize("schedule", ["exponential", "linear"])
def test_schedule(schedule: Any) -> None:
    """Densities fall by one factor or by one difference per round, and end exactly."""
    counts = round_counts(0.01, 100_000, 10, schedule)
    assert counts[-1] == num_kept(0.01, 100_000)
    steps = [b / a for a, b in zip(counts, counts[1:], strict=False)]
    if schedule == "linear":
        steps = [a - b for a, b in zip(counts, counts[1:], strict=False)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize("variant", ["force", "iter_snip"])
def test_cost(variant: Any) -> None:
    """Each round passes the scoring examples forward and backward; or a batch of fresh ones."""
    given = work()
    force(net(), given, 0.1, rounds=4, per_class=2, variant=variant)
    assert (given.cost.forward, given.cost.backward) == (24, 24)
    given = work()
    force(net(), given, 0.1, rounds=4, batch=16, examples="fresh", variant=variant)
    assert (given.cost.forward, given.cost.backward) == (64, 64)  # 48 examples, and 16 again


def test_fresh_examples_matter() -> None:
    """Rounds on other examples give another mask."""
    masks = [
        flatten(select(force(net(), work(), 0.1, rounds=9, examples=each), net(), 0.1))
        for each in ("same", "fresh")
    ]
    assert not torch.equal(*masks)


def test_a_batch_of_one() -> None:
    """Batch norms that have a single example say so, in both ways of choosing examples."""
    for examples in ("same", "fresh"):
        flat = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5)).double()
        with pytest.raises(UserError, match="^batch norms cannot use the statistics of 1 example"):
            force(flat, work(), 0.1, rounds=2, batch=1, examples=examples)


def test_no_gradient() -> None:
    """A network that passes no gradient on is refused in one line."""
    dead = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        dead.get_parameter("1.bias").fill_(-1e6)
        dead.get_parameter("3.weight").zero_()
    with pytest.raises(UserError, match="no gradient of the loss reaches them"):
        force(dead, work(), 0.1, rounds=3)

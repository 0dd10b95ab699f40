"""Gem-Miner: scores in [0, 1], flags that only fall, counts that end where they should."""

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from paibench.methods.core.mask import Weights, flatten, prunable, top, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket, count_ties, select
from paibench.methods.supermasks.gem_miner import (
    GemMinerSearch,
    Schedule,
    default_regularization,
    gem_miner,
)
from paibench.methods.training.recipe import Recipe

RESNET_20 = 268_336  # prunable weights, shortcuts without parameters
TOTAL = 240
ROOT = Path(__file__).parents[3]


def mlp() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 2))


def blobs(epochs: int = 7) -> Task:
    """Two classes around opposite points."""
    labels = torch.arange(64) % 2
    inputs = randn(64, 8) * 0.5 + (2 * labels[:, None] - 1) * torch.linspace(-1, 1, 8)
    return Task.of(inputs, labels, classes=2, recipe=Recipe(epochs=epochs, batch=16))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def uniform(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)).double()


def mine_of(
    density: float, epochs: int, period: int = 1, regularization: float = 1e-4, **counts: str
) -> GemMinerSearch:
    kept = round(density * TOTAL)
    schedule = Schedule(TOTAL, kept, density, epochs, period, **{"counts": "exact"} | counts)  # type: ignore[arg-type]
    return GemMinerSearch(mlp(), uniform(TOTAL).float(), schedule, regularization)


def dig(mine: GemMinerSearch, epochs: int, lr: float = 0.1) -> list[tuple[Tensor, Tensor]]:
    """Train; the scores and flags after each epoch."""
    seen: list[tuple[Tensor, Tensor]] = []

    def after_epoch(epoch: int) -> None:
        mine.after_epoch(epoch)
        seen.append((mine.scores.detach().clone(), mine.flags.clone()))

    blobs(epochs).fit(
        mine.supermask,
        before_step=mine.clamp,
        after_epoch=after_epoch,
        penalty=mine.penalty,
        lr=lr,
    )
    return seen


ORACLES = [
    pytest.param(0.0059, 5, 29, 1_580, id="0.59%"),
    pytest.param(0.0144, 5, 29, 3_861, id="1.44%"),
    pytest.param(0.0372, 5, 29, 9_977, id="3.72%"),
    pytest.param(0.5, 8, 18, 134_161, id="50%"),
]


@pytest.mark.parametrize(("density", "period", "rounds", "expected"), ORACLES)
def test_authors_counts_on_resnet_20(
    density: float, period: int, rounds: int, expected: int
) -> None:
    """Without ties, ceil(rate * active) a round gives the published counts for 150 epochs."""
    kept = round(density * RESNET_20)
    schedule = Schedule(RESNET_20, kept, density, 150, period, "authors")
    assert schedule.rounds == rounds
    scores = torch.randperm(RESNET_20, generator=torch.Generator().manual_seed(0)).double()
    active, counts = torch.ones(RESNET_20, dtype=torch.bool), [RESNET_20]
    for epoch in filter(schedule.due, range(150)):
        active = schedule.survivors(scores / RESNET_20, active, epoch)
        counts.append(int(active.sum()))
    rate = 1 - density ** (1 / rounds)
    assert [b for _, b in zip(counts, counts[1:], strict=False)] == [
        a - math.ceil(rate * a) for a in counts[:-1]
    ]
    assert counts[-1] == expected


@pytest.mark.parametrize(("density", "period", "rounds", "_"), ORACLES)
def test_exact_counts_on_resnet_20(density: float, period: int, rounds: int, _: int) -> None:
    """The default counts follow the exponential and end at round(density * total)."""
    kept = round(density * RESNET_20)
    schedule = Schedule(RESNET_20, kept, density, 150, period, "exact")
    scores, active, counts = uniform(RESNET_20), torch.ones(RESNET_20, dtype=torch.bool), []
    for epoch in filter(schedule.due, range(150)):
        active = schedule.survivors(scores, active, epoch)
        counts.append(int(active.sum()))
    assert counts == [round(RESNET_20 * density ** (i / rounds)) for i in range(1, rounds + 1)]
    assert counts[-1] == kept


@pytest.mark.parametrize("counts", ["exact", "authors"])
def test_a_round_freezes_the_lowest_active(counts: Literal["exact", "authors"]) -> None:
    """Frozen weights score below the survivors; weights frozen earlier play no part."""
    scores, active = uniform(100), uniform(100, seed=1) > 0.4
    stay = Schedule(100, 10, 0.1, 3, 1, counts).survivors(scores, active, 1)
    assert bool((stay <= active).all())
    assert 0 < int(stay.sum()) < int(active.sum())
    assert scores[stay].min() > scores[active & ~stay].max()


def test_ties_fall_together_for_the_authors_alone() -> None:
    """With many scores at 0 the authors' rule freezes all of them, ours the exact number."""
    scores = torch.cat([torch.zeros(60), torch.linspace(0.1, 1, 40)]).double()
    active = torch.ones(100, dtype=torch.bool)
    authors = Schedule(100, 25, 0.25, 3, 1, "authors").survivors(scores, active, 1)
    exact = Schedule(100, 25, 0.25, 3, 1, "exact").survivors(scores, active, 1)
    assert int(authors.sum()) == 40  # ceil(0.5 * 100) asked for 50
    assert int(exact.sum()) == 50
    assert int(exact[:60].sum()) == 10 and exact[60:].all()


def test_the_mask_repeats_the_lot_of_the_last_round() -> None:
    """With most scores at 0, the mask is still what the search kept, and the ties are counted."""
    mine = mine_of(0.4, 7, period=2)
    dig(mine, 7, lr=10.0)
    order = Scores(order_in(mine))
    mask = select(order, mlp(), 0.4)
    assert torch.equal(flatten(mask), mine.flags > 0)
    ties = count_ties(order, mask)
    assert ties is not None and ties > 24
    other = select(order, mlp(), 0.4, seed=1)
    moved = flatten(mask) != flatten(other)
    assert 0 < int(moved.sum()) <= ties


def order_in(mine: GemMinerSearch) -> Weights:
    return unflatten(mine.state()["order"], prunable(mlp()))


@pytest.mark.parametrize(
    ("epochs", "period", "due"),
    [
        (150, 5, list(range(5, 146, 5))),
        (150, 8, list(range(8, 145, 8))),
        (11, 5, [5, 10]),
        (5, 5, [4]),
        (2, 5, [1]),
        (1, 5, []),
    ],
)
def test_when_rounds_are_due(epochs: int, period: int, due: list[int]) -> None:
    """After every period-th epoch but the first; once, after the last, when there are too few."""
    schedule = Schedule(100, 10, 0.1, epochs, period, "exact")
    assert list(filter(schedule.due, range(epochs))) == due
    assert schedule.rounds == len(due)


def test_scores_stay_in_the_unit_interval_and_flags_only_fall() -> None:
    """At the end of each epoch p lies in [0, 1], some at the ends, and no flag came back."""
    seen = dig(mine_of(0.2, 6), 6, lr=3.0)
    for scores, _ in seen:
        assert scores.min() >= 0 and scores.max() <= 1
    assert int((seen[-1][0] == 0).sum()) > 0
    for (_, before), (_, after) in zip(seen, seen[1:], strict=False):
        assert bool((after <= before).all())
    assert [int(flags.sum()) for _, flags in seen] == [
        240, *(round(240 * 0.2 ** (i / 5)) for i in range(1, 6))
    ]  # fmt: skip


def test_every_forward_pass_sees_clamped_scores() -> None:
    """A step far beyond the interval is taken back before the next pass."""
    mine = mine_of(0.2, 3)
    with torch.no_grad():
        mine.scores.add_(randn(TOTAL) * 10)
    mine.clamp()
    assert mine.scores.min() == 0 and mine.scores.max() == 1


def test_gradient_of_the_scores() -> None:
    """It is q * w * dL/dw_eff: none from the data for frozen weights, some for rounded ones."""
    mine = mine_of(0.2, 3)
    mine.flags.copy_(uniform(TOTAL, seed=5) > 0.3)
    inputs, labels, net = randn(6, 8), torch.arange(6) % 2, mlp()
    torch.autograd.backward(F.cross_entropy(mine.supermask(inputs), labels))

    weights: Weights = {name: w.detach() for name, w in prunable(net).items()}
    used = (mine.flags > 0) & (mine.scores.detach() > 0.5)
    leaf = (flatten(weights) * used).requires_grad_()
    cut = leaf.split([192, 48])  # type: ignore[no-untyped-call]
    tied = {name: part.view(weights[name].shape) for name, part in zip(weights, cut, strict=True)}
    torch.autograd.backward(F.cross_entropy(functional_call(net, tied, (inputs,)), labels))
    assert mine.scores.grad is not None and leaf.grad is not None
    expected = mine.flags * flatten(weights) * leaf.grad
    torch.testing.assert_close(mine.scores.grad, expected)
    assert int(mine.scores.grad[(mine.flags > 0) & ~used].count_nonzero()) > 20


def test_gradient_of_the_penalty() -> None:
    """The regularizer adds 2 * lambda * p for every score, frozen ones included."""
    mine = mine_of(0.2, 3, regularization=0.25)
    mine.flags.zero_()
    torch.autograd.backward(mine.penalty())
    assert torch.equal(mine.scores.grad, 2 * 0.25 * mine.scores.detach())  # type: ignore[arg-type]


def test_scores_at_a_half_are_rounded_down() -> None:
    """A weight is used when its score is strictly above 0.5."""
    mine = mine_of(0.2, 3)
    with torch.no_grad():
        mine.scores.fill_(0.5)[0] = 0.5 + 2**-24 * 2
    used = flatten(mine.effective(mine.scores, mine.supermask.weights)) != 0
    assert used.nonzero().view(-1).tolist() == [0]


def test_the_distances_between_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They compare the rounded supermasks, from that of the initial scores to the native one."""
    seen: list[Tensor] = []
    used = GemMinerSearch.used

    def spy(search: GemMinerSearch) -> Tensor:
        seen.append(used(search))
        return seen[-1]

    monkeypatch.setattr(GemMinerSearch, "used", spy)
    ticket = gem_miner(mlp(), blobs(6), 0.3, period=2)
    masks = seen[:7]
    assert torch.equal(masks[-1], flatten(ticket.native[0]) != 0)
    assert len(ticket.distances) == len(masks) and ticket.distances[-1][0] > 0
    for t, row in enumerate(ticket.distances):
        assert row == tuple(float((masks[t] != masks[s]).double().mean()) for s in range(t))


def test_without_freezing_and_penalty_it_is_a_threshold_at_a_half() -> None:
    """One epoch has no round: the native supermask is w * 1[p > 0.5], the ticket the top of p."""
    net = mlp()
    ticket = gem_miner(net, blobs(epochs=1), 0.25, regularization=0.0)
    weights = flatten({name: w.detach() for name, w in prunable(net).items()})
    used = flatten(ticket.native[0]) != 0
    assert torch.equal(flatten(ticket.native[0]), weights * used)
    # the scores are uniform at the start: about half are above 0.5, and these are the top
    assert 60 < int(used.sum()) < 180
    assert torch.equal(used, top(order_of(ticket), int(used.sum())))


def order_of(ticket: Ticket) -> Tensor:
    assert isinstance(ticket.mask, Scores) and ticket.mask.kept is None
    return flatten(ticket.mask.values)


@pytest.mark.parametrize("density", [1 / TOTAL, 0.1, 0.5, 1.0], ids=str)
def test_the_ticket_is_what_was_never_frozen(density: float) -> None:
    """With exact counts the mask equals the flags at the end: idle weights come back."""
    mine = mine_of(density, 7, period=2)
    seen = dig(mine, 7)
    ticket = gem_miner(mlp(), blobs(), density, period=2)
    mask = flatten(select(ticket.mask, mlp(), density))
    assert torch.equal(flatten(select(Scores(order_in(mine)), mlp(), density)), seen[-1][1] > 0)
    assert int(seen[-1][1].sum()) == int(mask.sum()) == round(density * TOTAL)
    native = flatten(ticket.native[0]) != 0
    assert bool((native <= mask).all())


def test_the_order_is_that_of_elimination() -> None:
    """Weights frozen in an earlier round rank lower; within a round the score decides."""
    mine = mine_of(0.2, 4)
    seen = dig(mine, 4)
    order = mine.state()["order"]
    fell = sum(flags.double() for _, flags in seen)  # how many epochs a weight was active for
    assert isinstance(fell, Tensor)
    for early in range(1, 4):
        assert order[fell == early].max() < order[fell > early].min()
        place = fell == early
        assert torch.equal(order[place].argsort(), seen[early][0][place].argsort())


def test_keep_unused_decides_how_idle_weights_begin() -> None:
    """Kept weights that are rounded to 0 start with their values, or at 0 without the option."""
    net = mlp()
    back, idle = (
        gem_miner(net, blobs(), 0.5, lr=0.5, keep_unused=keep_unused)
        for keep_unused in (True, False)
    )
    assert back.weights is None and idle.weights is not None
    mask, native = select(idle.mask, net, 0.5), idle.native[0]
    zeros = 0
    for name, weight in prunable(net).items():
        resting = mask[name] & (native[name] == 0)
        assert torch.equal(idle.weights[name] == 0, resting)
        assert torch.equal(idle.weights[name][~resting], weight.detach()[~resting])
        assert torch.equal(idle.weights[name] * mask[name], native[name])
        zeros += int(resting.sum())
    assert zeros > 0
    assert torch.equal(order_of(back), order_of(idle))


@pytest.mark.parametrize("counts", ["exact", "authors"])
def test_emergency(counts: Literal["exact", "authors"]) -> None:
    """If the rounded mask is empty, all but the requested number of weights are frozen at once."""
    mine = mine_of(0.1, 9, period=4, regularization=2.0, counts=counts)
    seen = dig(mine, 9)
    active = [int(flags.sum()) for _, flags in seen]
    assert active[0] == 24  # long before the first round, which is due after epoch 4
    ticket = gem_miner(mlp(), blobs(9), 0.1, period=4, regularization=2.0, counts=counts)
    assert sum(int(m.sum()) for m in select(ticket.mask, mlp(), 0.1).values()) == 24
    assert not bool(flatten(ticket.native[0]).any())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_supermask_learns(optimizer: Literal["sgd", "adam"]) -> None:
    """After the search the rounded mask of signed constants solves a linear problem."""
    net, task = mlp(), blobs(20)
    with torch.no_grad():
        for weight in prunable(net).values():
            weight.copy_(weight.sign() * math.sqrt(2 / weight[0].numel()))
    (inputs, labels), *_ = task.batches()
    ticket = gem_miner(net, task, 0.5, optimizer=optimizer)
    right = functional_call(net, ticket.native[0], (inputs,)).argmax(1) == labels
    assert right.double().mean() >= 0.95
    assert task.cost.backward == 20 * 64


# The authors' final configurations: prunable weights, epochs, density, the lowest and the highest
# value, and the factor within which the rule meets them. An epoch has 391 steps.
RESNET_18, TINY_RESNET_18 = 11_164_352, 11_261_632
AUTHORS = [
    ("ResNet-20", "SGD", RESNET_20, 150, 0.0059, 1e-4, 1e-4, 1.3),
    ("ResNet-20", "SGD", RESNET_20, 150, 0.0144, 5e-5, 1e-4, 1.0),
    ("ResNet-20", "SGD", RESNET_20, 150, 0.0372, 3e-5, 3e-5, 1.3),
    ("ResNet-20", "SGD", RESNET_20, 150, 0.1334, 5e-6, 1e-5, 1.3),
    ("ResNet-20", "SGD", RESNET_20, 150, 0.2, 5e-6, 1e-5, 1.0),
    ("ResNet-20", "SGD", RESNET_20, 150, 0.5, 0, 1e-8, 1.0),
    ("ResNet-32, CIFAR-100", "SGD", 467_632, 150, 0.02, 1e-5, 1e-4, 1.0),
    ("ResNet-32, CIFAR-100", "SGD", 467_632, 150, 0.05, 5e-6, 1e-5, 2.5),
    ("MobileNet-V2", "SGD", 2_202_560, 300, 0.014, 1.5e-5, 1.5e-5, 1.5),
    ("MobileNet-V2", "SGD", 2_202_560, 300, 0.05, 7e-6, 7e-6, 1.5),
    ("MobileNet-V2", "SGD", 2_202_560, 300, 0.2, 3e-6, 3e-6, 2.5),
    ("MobileNet-V2", "SGD", 2_202_560, 300, 0.5, 0, 0, 1.0),
    ("ResNet-18, Tiny ImageNet", "SGD", TINY_RESNET_18, 200, 0.2, 3e-6, 3e-6, 3.5),
    ("ResNet-18, Tiny ImageNet", "SGD", TINY_RESNET_18, 200, 0.5, 0, 0, 1.0),
    ("ResNet-18, Tiny ImageNet", "Adam", TINY_RESNET_18, 200, 0.005, 1e-5, 1e-5, 1.1),
    ("ResNet-18, Tiny ImageNet", "Adam", TINY_RESNET_18, 200, 0.014, 5e-6, 9e-6, 1.0),
    ("ResNet-18, Tiny ImageNet", "Adam", TINY_RESNET_18, 200, 0.05, 8e-6, 8e-6, 2.5),
    ("ResNet-18", "Adam", RESNET_18, 200, 0.005, 8.5e-6, 8.5e-6, 1.2),
    ("ResNet-18", "Adam", RESNET_18, 200, 0.05, 3e-6, 3e-6, 1.2),
    ("VGG-16", "Adam", 14_715_584, 200, 0.014, 1e-6, 1e-6, 6.0),
    ("VGG-16", "Adam", 14_715_584, 200, 0.05, 1e-6, 1e-6, 3.1),
    ("VGG-16", "Adam", 14_715_584, 200, 0.2, 1e-6, 1e-6, 1.4),
]


@pytest.mark.parametrize(
    ("network", "optimizer", "weights", "epochs", "density", "low", "high", "within"), AUTHORS
)
def test_the_default_penalty_is_near_the_authors(
    network: str,
    optimizer: str,
    weights: int,
    epochs: int,
    density: float,
    low: float,
    high: float,
    within: float,
) -> None:
    """The rule meets each value of the authors' configurations as closely as the docs say."""
    value = default_regularization(density, weights, epochs * 391)
    assert low / within <= value <= high * within
    authors = f"{high:.2g}" if low in (high, 0) else f"{low:.2g} to {high:.2g}"
    row = f"| {network} | {optimizer} | {density:g} | {authors} | {value:.2g} |"
    assert row in (ROOT / "docs/methods.md").read_text()


@settings(derandomize=True, deadline=None)
@given(density=st.floats(1e-4, 1), weights=st.integers(100, 10**9), steps=st.integers(1, 10**7))
def test_the_default_penalty_decreases(density: float, weights: int, steps: int) -> None:
    """A denser mask, more weights or more steps never ask for more; from one half on it is 0."""
    value = default_regularization(density, weights, steps)
    assert value >= default_regularization(min(1.0, 1.5 * density), weights, steps)
    assert value >= default_regularization(density, 2 * weights, steps)
    assert value == pytest.approx(2 * default_regularization(density, weights, 2 * steps))
    assert (value == 0) == (density >= 0.5)


def test_the_default_is_the_rule_for_this_run() -> None:
    """None is the same as the value of the rule for the density, the weights and the steps."""
    value = default_regularization(0.1, TOTAL, 7 * 4)
    by_rule, explicit, other = (
        order_of(gem_miner(mlp(), blobs(), 0.1, regularization=chosen))
        for chosen in (None, value, 2 * value)
    )
    assert torch.equal(by_rule, explicit)
    assert not torch.equal(by_rule, other)


def test_the_penalty_alone_shrinks_scores_as_the_rule_says() -> None:
    """Without gradients from the data a score ends at exp(-factor * steps) of its start."""
    epochs, factor = 250, 1e-3
    schedule = Schedule(TOTAL, TOTAL, 1.0, epochs, epochs, "exact")
    mine = GemMinerSearch(mlp(), uniform(TOTAL).float(), schedule, factor)
    start = mine.scores.detach().clone()
    mine.flags.zero_()
    blobs(epochs).fit(
        mine.supermask,
        penalty=mine.penalty,
        lr=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        schedule="cosine",
        warmup=0,
    )
    shrunk = float(mine.scores.detach().sum() / start.sum())
    assert -math.log(shrunk) == pytest.approx(factor * epochs * 4, rel=0.02)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("period", 0, "gem_miner: period = 0 must be at least 1"),
        ("regularization", -1.0, "gem_miner: regularization = -1.0 must be 0 or more"),
        ("regularization", math.nan, "gem_miner: regularization = nan must be 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: float, message: str) -> None:
    """Each option out of range is refused in one line."""
    with pytest.raises(UserError) as error:
        gem_miner(mlp(), blobs(), 0.3, **{option: value})  # type: ignore[arg-type]
    assert str(error.value) == message

"""Edge-popup: exact counts at every step, gradients on scores alone."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from paibench.methods.core.mask import Weights, flatten, prunable, top, unflatten
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket, as_ticket, select
from paibench.methods.supermasks.edge_popup import EdgePopup, IncrementalTopK, edge_popup
from paibench.methods.training.loop import Diverged
from paibench.methods.training.recipe import Recipe

Rank = Literal["abs", "raw"]


def mlp(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(8, 24),
            nn.ReLU(),
            nn.Linear(24, 10),
            nn.ReLU(),
            nn.Linear(10, 2),
        )


def blobs(recipe: Recipe | None = None, seed: int = 0) -> Task:
    """Two classes around opposite points: a linear problem."""
    draw = torch.Generator().manual_seed(4)
    labels = torch.arange(64) % 2
    centre = torch.linspace(-1, 1, 8)
    inputs = torch.randn(64, 8, generator=draw) * 0.5 + (2 * labels[:, None] - 1) * centre
    recipe = recipe or Recipe(epochs=3, batch=16)
    return Task.of(inputs, labels, classes=2, seed=seed, recipe=recipe)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def marks(cut: IncrementalTopK, flat: Tensor) -> Tensor:
    mask = torch.full_like(flat, math.nan)
    cut(flat, mask)
    return mask


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    size=st.integers(1, 300),
    fraction=st.floats(0, 1),
    steps=st.lists(st.floats(0, 2), min_size=1, max_size=8),
    levels=st.sampled_from([2, 20, 10**6]),
    seed=st.integers(0, 10**6),
)
def test_cut_is_the_exact_top_at_every_step(
    size: int, fraction: float, steps: list[float], levels: int, seed: int
) -> None:
    """However far the scores move and however many tie, the mask is that of a full ranking."""
    draw = torch.Generator().manual_seed(seed)
    kept = round(fraction * size)
    cut, flat = IncrementalTopK(kept), torch.randn(size, generator=draw)
    for step in [0.0, *steps]:
        flat = flat + step * 0.1 * torch.randn(size, generator=draw)
        tied = (flat * levels).round() / levels
        assert torch.equal(marks(cut, tied).bool(), top(tied, kept))


def test_cut_ranks_few_entries_once_it_follows() -> None:
    """While scores move slowly, the threshold is found among the entries near the last one."""
    draw = torch.Generator().manual_seed(0)
    flat, drift = torch.randn(20_000, generator=draw), torch.randn(20_000, generator=draw)
    cut = IncrementalTopK(5_000)
    for _ in range(20):
        flat = flat + 1e-3 * drift
        mask = marks(cut, flat)
    inside = (flat - cut.threshold).abs() <= cut.reach
    assert mask.sum() == 5_000
    assert 0 < int(inside.sum()) < 1_000


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_scores_that_are_no_numbers_are_left_to_the_loop(bad: float) -> None:
    """A loss that is not finite is reported as divergence, not as a mask that cannot be made."""
    task = Task.of(torch.full((32, 8), bad), torch.arange(32) % 2, classes=2)
    with pytest.raises(Diverged):
        edge_popup(mlp(), task, 0.3)


SIZES = {"1.weight": 192, "3.weight": 240, "5.weight": 20}


@pytest.mark.parametrize("density", [0.03, 0.25, 0.5, 0.9])
def test_layers_keep_the_same_density(density: float) -> None:
    """Layer counts lie within one of density times size and add up exactly."""
    found = edge_popup(mlp(), blobs(), density).mask
    assert isinstance(found, Scores) and found.kept is not None
    assert sum(found.kept.values()) == round(density * 452)
    assert all(abs(found.kept[name] - density * size) <= 1 for name, size in SIZES.items())
    mask = select(found, mlp(), density)
    assert {name: int(kept.sum()) for name, kept in mask.items()} == found.kept


@pytest.mark.parametrize(
    ("counts", "expected"), [("exact", [98, 123, 10]), ("authors", [98, 123, 11])]
)
def test_counts_during_the_search(
    counts: Literal["exact", "authors"], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every pass, and in the masks of 3 epochs, each layer has its count or the authors'."""
    seen: list[list[int]] = []
    mask = EdgePopup.mask

    def spy(popup: EdgePopup, values: Tensor) -> Tensor:
        result = mask(popup, values)
        seen.append([int(part.sum()) for part in result.split(list(SIZES.values()))])  # type: ignore[no-untyped-call]
        return result

    monkeypatch.setattr(EdgePopup, "mask", spy)
    edge_popup(mlp(), blobs(), 0.51, counts=counts)
    assert seen == [expected] * (12 + 1 + 3)


def effective(rank: Rank, scores: Tensor, weights: Weights, kept: list[int]) -> Weights:
    return EdgePopup([w.numel() for w in weights.values()], kept, rank)(scores, weights)


ORACLES: dict[Rank, Callable[[Tensor], Tensor]] = {"abs": torch.sign, "raw": torch.ones_like}


@pytest.mark.parametrize("rank", ORACLES)
def test_gradient_of_the_scores(rank: Rank) -> None:
    """It is sign(s) * w * dL/dw_eff for |s| and w * dL/dw_eff for s, for pruned weights too."""
    net = mlp().double()
    weights: Weights = {name: w.detach() for name, w in prunable(net).items()}
    inputs, labels = randn(6, 8).double(), torch.arange(6) % 2
    scores = randn(452).double().requires_grad_()
    used = effective(rank, scores, weights, [60, 70, 9])
    torch.autograd.backward(F.cross_entropy(functional_call(net, used, (inputs,)), labels))

    leaves = {name: w.detach().clone().requires_grad_() for name, w in used.items()}
    loss = F.cross_entropy(functional_call(net, leaves, (inputs,)), labels)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    by_name = dict(zip(leaves, gradients, strict=True))
    expected = ORACLES[rank](scores.detach()) * flatten(weights) * flatten(by_name)
    assert scores.grad is not None
    assert torch.equal(scores.grad, expected)
    assert int((scores.grad[flatten(used) == 0] != 0).sum()) > 100


def test_sign_of_the_scores_matters_to_raw_ranking_alone() -> None:
    """Flipping all signs leaves the mask of |s| unchanged and turns the one of s around."""
    weights: Weights = {name: w.detach() for name, w in prunable(mlp()).items()}
    scores = randn(452)

    def used(rank: Rank, s: Tensor) -> Tensor:
        return flatten(effective(rank, s, weights, [96, 120, 10])) != 0

    assert torch.equal(used("abs", scores), used("abs", -scores))
    assert torch.equal(used("raw", scores), ~used("raw", -scores))


def test_density_one_is_the_network_itself() -> None:
    """With everything kept the masked network gives the random network's own output."""
    net, inputs = mlp(), randn(5, 8)
    weights: Weights = {name: w.detach() for name, w in prunable(net).items()}
    used = effective("abs", randn(452), weights, [192, 240, 20])
    assert torch.equal(functional_call(net, used, (inputs,)), net(inputs))


def test_signed_constants_stay_constants() -> None:
    """With weights of one magnitude a layer, each effective weight is that or 0."""
    weights = {n: w.detach().sign() * w.detach().std() for n, w in prunable(mlp()).items()}
    used = effective("abs", randn(452), weights, [60, 70, 9])
    for name, weight in weights.items():
        assert set(used[name].abs().flatten().tolist()) == {0.0, float(weight.abs().max())}


def test_scores_start_within_the_kaiming_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first step no score is beyond 1 / sqrt(fan in), and they fill that range."""
    first: list[Tensor] = []
    mask = EdgePopup.mask

    def spy(popup: EdgePopup, values: Tensor) -> Tensor:
        first.append(values.clone())
        return mask(popup, values)

    monkeypatch.setattr(EdgePopup, "mask", spy)
    edge_popup(mlp(), blobs(), 0.3, rank="raw", epochs=1)
    for layer, fan_in in zip(first[0].split(list(SIZES.values())), [8, 24, 10], strict=True):  # type: ignore[no-untyped-call]
        bound = 1 / math.sqrt(fan_in)
        assert 0.8 * bound < layer.max() <= bound
        assert -bound <= layer.min() < -0.8 * bound


def test_global_ranking_lets_layers_compete() -> None:
    """Across layers, the highest |s| win wherever they are."""
    found = edge_popup(mlp(), blobs(), 0.25, layers="global").mask
    assert isinstance(found, Scores) and found.kept is None
    mask = select(found, mlp(), 0.25)
    densities = [kept.double().mean().item() for kept in mask.values()]
    assert max(densities) - min(densities) > 0.05
    values, kept = flatten(found.values), flatten(mask)
    assert values[kept].min() >= values[~kept].max()


def test_scale_multiplies_by_the_root_of_the_kept_fraction() -> None:
    """The ticket starts from weights times sqrt(1 / density): the fraction that is kept."""
    net = mlp()
    found = edge_popup(net, blobs(), 0.25, scale=True)
    assert found.weights is not None
    for name, weight in prunable(net).items():
        assert torch.equal(found.weights[name], weight.detach() * 2)


def test_epochs_are_the_recipes_unless_given() -> None:
    """The cost of the search is epochs times examples."""
    ours, given = blobs(), blobs()
    edge_popup(mlp(), ours, 0.3)
    edge_popup(mlp(), given, 0.3, epochs=5)
    assert (ours.cost.forward, given.cost.forward) == (3 * 64, 5 * 64)


def test_the_distances_between_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row t compares the mask after t epochs with the earlier ones, of searches that stop early."""
    fit = Task.fit

    def mask_after(epochs: int) -> Tensor:
        def stopped(task: Task, *args: Any, **arguments: Any) -> None:
            fit(task, *args, **arguments, stop=epochs * task.steps_per_epoch)

        with monkeypatch.context() as patch:
            patch.setattr(Task, "fit", stopped)
            return flatten(select(edge_popup(mlp(), blobs(), 0.3).mask, mlp(), 0.3))

    masks = [mask_after(epochs) for epochs in range(4)]
    rows = edge_popup(mlp(), blobs(), 0.3).distances
    assert len(rows) == 4 and rows[3][0] > 0
    for t, row in enumerate(rows):
        assert row == tuple(float((masks[t] != masks[s]).double().mean()) for s in range(t))


@pytest.mark.parametrize("layers", ["layer", "global"])
def test_the_mask_alone_learns(layers: Literal["layer", "global"]) -> None:
    """After the search the masked random network solves a problem that it did not before."""
    recipe, net = Recipe(epochs=30, batch=16), mlp()
    (inputs, labels), *_ = blobs(recipe).batches()

    def accuracy(epochs: int, lr: float) -> float:
        found = edge_popup(net, blobs(recipe), 0.5, layers=layers, epochs=epochs, lr=lr)
        mask = select(as_ticket(found).mask, net, 0.5)
        used = {name: w.detach() * mask[name] for name, w in prunable(net).items()}
        right = functional_call(net, used, (inputs,)).argmax(1) == labels
        return float(right.double().mean())

    assert accuracy(30, 0.1) >= 0.95
    assert accuracy(1, 1e-9) < 0.9


def values_of(found: Ticket) -> Tensor:
    assert isinstance(found.mask, Scores)
    return flatten(found.mask.values)


def test_scores_belong_to_their_weights() -> None:
    """The scores that come back belong to the weights that they were trained for."""
    net = mlp()
    with torch.no_grad():  # only one weight has any effect, so only its score can move
        for weight in prunable(net).values():
            weight.zero_()
        net.get_parameter("5.weight")[0, 3] = 1.0
        net.get_parameter("3.bias").fill_(1.0)
    before, after = (
        values_of(edge_popup(net, blobs(), 1.0, rank="raw", weight_decay=0.0, lr=lr))
        for lr in (1e-12, 0.1)
    )
    moved = unflatten((before - after).abs() > 1e-6, prunable(net))
    assert moved["5.weight"][0, 3]
    assert sum(int(layer.sum()) for layer in moved.values()) == 1

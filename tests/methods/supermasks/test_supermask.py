"""A network whose scores are trained and whose weights are not."""

import copy
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Weights, flatten, prunable, total
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Ticket, as_ticket, select
from paibench.methods.supermasks.edge_popup import edge_popup
from paibench.methods.supermasks.gem_miner import gem_miner
from paibench.methods.supermasks.supermask import (
    MOST_INTERVALS,
    MaskLog,
    Supermask,
    cache_name,
    masked,
    rows,
)
from paibench.methods.supermasks.zhou import zhou
from paibench.methods.training.recipe import Recipe

FINDERS: dict[str, Callable[..., object]] = {
    "edge_popup": edge_popup,
    "edge_popup global raw": lambda *a: edge_popup(*a, layers="global", rank="raw"),
    "edge_popup scaled": lambda *a: edge_popup(*a, scale=True, counts="authors"),
    "zhou": lambda *a: zhou(*a, lr=5.0, samples=2),
    "zhou rescaled constants": lambda *a: zhou(*a, rescale=True, signed_constant=True),
    "gem_miner": lambda *a: gem_miner(*a, period=1),
    "gem_miner authors": lambda *a: gem_miner(*a, period=1, counts="authors", keep_unused=False),
}


def convnet() -> nn.Sequential:
    """A net with biases and with norms that have parameters and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 3),
        )


def task_of(seed: int = 0, precision: str = "fp32") -> Task:
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 2, 4, 4, generator=draw)
    recipe = Recipe(epochs=3, batch=8, precision=precision)  # type: ignore[arg-type]
    return Task.of(inputs, torch.arange(32) % 3, classes=3, seed=seed, recipe=recipe)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def scores_of(net: nn.Module) -> Tensor:
    return randn(total(prunable(net)))


def above_zero(values: Tensor, weights: Weights) -> Weights:
    """Use the weights whose score is positive."""
    return masked(values, torch.gt(values.detach(), 0, out=torch.empty_like(values)), weights)


def test_masked_weights_and_their_straight_through_gradient() -> None:
    """The gradient is weight times gradient of the effective weight, pruned weights included."""
    weights: Weights = {"a": randn(2, 3).double(), "b": randn(4).double()}
    values = randn(10).double().requires_grad_()
    mask = torch.tensor([1, 0, 0, 1, 1, 0, 0, 1, 0, 1]).double()
    effective = masked(values, mask, weights)
    assert torch.equal(flatten(effective), flatten(weights) * mask)
    upstream = {"a": randn(3, 2).double().T, "b": randn(5).double()[1:]}
    sum((effective[name] * upstream[name]).sum() for name in weights).backward()  # type: ignore[union-attr]
    assert values.grad is not None
    assert torch.equal(values.grad, flatten(weights) * flatten(upstream))
    assert all(not weight.requires_grad for weight in weights.values())


def test_only_the_scores_can_be_trained() -> None:
    """Weights, biases and norm parameters of the copy are frozen; the network is not touched."""
    net = convnet()
    supermask = Supermask(net, scores_of(net), above_zero)
    trainable = [name for name, p in supermask.named_parameters() if p.requires_grad]
    assert trainable == ["scores"]
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_search_moves_scores_and_statistics_and_nothing_else() -> None:
    """After training, every parameter of the copy has the bits that it started with."""
    net = convnet()
    before = copy.deepcopy(net.state_dict())
    scores = scores_of(net)
    supermask = Supermask(net, scores, above_zero)
    task_of().fit(supermask)
    after = supermask.net.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert not torch.equal(supermask.scores, scores)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_replaced_weights_are_those_of_the_copy_alone() -> None:
    """`weights` changes what is masked, and leaves the network that was given."""
    net = convnet()
    ours = {"6.weight": torch.full((3, 64), 2.0)}
    supermask = Supermask(net, scores_of(net), lambda scores, weights: weights, ours)
    assert torch.equal(supermask.net.state_dict()["6.weight"], ours["6.weight"])
    assert not torch.equal(net.state_dict()["6.weight"], ours["6.weight"])
    expected = copy.deepcopy(net)
    expected.load_state_dict(ours, strict=False)
    inputs = randn(5, 2, 4, 4)
    assert torch.equal(supermask(inputs), expected(inputs))


def test_memory_layout_changes_no_mask_and_no_gradient() -> None:
    """With weights in channels-last memory each score still belongs to its own weight."""
    net = convnet()
    inputs = randn(5, 2, 4, 4)

    def gradient(layout: torch.memory_format) -> Tensor:
        supermask = Supermask(net, scores_of(net), above_zero)
        supermask.to(memory_format=layout)
        supermask(inputs.contiguous(memory_format=layout)).square().sum().backward()
        assert supermask.scores.grad is not None
        return supermask.scores.grad

    last = gradient(torch.channels_last)
    torch.testing.assert_close(gradient(torch.contiguous_format), last)


@pytest.mark.parametrize(
    ("epochs", "drawn"), [(0, [0]), (3, [0, 1, 2, 3]), (60, list(range(0, 61, 3)))], ids=str
)
def test_the_log_of_masks(epochs: int, drawn: list[int]) -> None:
    """It has the masks of all epochs, or of every third of 60, also from a checkpoint."""
    masks = [randn(13 + epoch).gt(0)[-13:] for epoch in range(epochs + 1)]
    first, resumed = MaskLog(13, epochs), MaskLog(13, epochs)
    for epoch, mask in enumerate(masks[: epochs // 2 + 1]):
        first.put(epoch, mask.float())
    resumed.load_state_dict(first.state_dict())
    for epoch in range(epochs // 2 + 1, epochs + 1):
        resumed.put(epoch, masks[epoch].float())
    found = rows(resumed.distances())
    assert len(found) == len(drawn) <= MOST_INTERVALS + 1
    for t, row in enumerate(found):
        later = masks[drawn[t]]
        assert row == tuple(float((later != masks[s]).double().mean()) for s in drawn[:t])


def test_stage_names_tell_options_apart() -> None:
    """Equal options share a name, different ones do not, and a name is safe as a file's."""
    first, same = cache_name("zhou", lr=1.0, rescale=True), cache_name("zhou", rescale=True, lr=1.0)
    others = [cache_name("zhou", lr=1.0, rescale=False), cache_name("imp", lr=1.0, rescale=True)]
    assert first == same
    assert len({first, *others}) == 3
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name) for name in (first, *others))


def find(finder: str, density: float, seed: int = 0, precision: str = "fp32") -> Ticket:
    return as_ticket(FINDERS[finder](convnet(), task_of(seed, precision), density))


@pytest.mark.parametrize("density", [1 / 336, 0.02, 0.3, 1.0], ids=str)
@pytest.mark.parametrize("finder", FINDERS)
def test_exact_counts_for_every_option(finder: str, density: float) -> None:
    """Whatever the options do to the search, exactly `round(density * total)` weights are kept."""
    mask = select(find(finder, density).mask, convnet(), density)
    assert sum(int(kept.sum()) for kept in mask.values()) == round(density * 336)


@pytest.mark.parametrize("finder", FINDERS)
def test_a_find_is_its_seed(finder: str) -> None:
    """The same seed gives the same mask and the same native supermasks; another gives another."""
    first, again, other = (find(finder, 0.3, seed) for seed in (0, 0, 1))
    masks = [select(ticket.mask, convnet(), 0.3) for ticket in (first, again, other)]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert not all(torch.equal(masks[0][name], masks[2][name]) for name in masks[0])
    for one, two in zip(first.native, again.native, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("finder", FINDERS)
def test_the_network_is_left_alone(finder: str, training: bool) -> None:
    """State, statistics, gradients and the training flag are as they were."""
    net = convnet().train(training)
    before = copy.deepcopy(net.state_dict())
    FINDERS[finder](net, task_of(), 0.3)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(module.training is training for module in net.modules())


@pytest.mark.parametrize("finder", ["edge_popup", "zhou", "gem_miner"])
def test_searches_run_in_bfloat16(finder: str) -> None:
    """In bfloat16 and channels-last memory the counts are as exact."""
    ticket = find(finder, 0.3, precision="bf16")
    mask = select(ticket.mask, convnet(), 0.3)
    assert sum(int(kept.sum()) for kept in mask.values()) == round(0.3 * 336)

"""Early-Bird: when a ticket emerges, what it starts from, and what it costs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from paibench.methods.baselines import early_bird as module
from paibench.methods.baselines.dense import state_of
from paibench.methods.baselines.early_bird import early_bird
from paibench.methods.conformance.networks import network, separable
from paibench.methods.core.mask import (
    Mask,
    flatten,
    full,
    keep_top,
    layer_counts,
    prunable,
    total,
)
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Channels, Scores, Ticket, removed_channels, select
from paibench.methods.training.recipe import Recipe

EPOCHS = 12


def work(epochs: int = EPOCHS, lr: float = 0.1) -> Task:
    task = separable(0)
    return Task(
        task._data, seed=0, recipe=Recipe(epochs=epochs, batch=16, lr=lr, schedule="cosine")
    )


def found(density: float = 0.4, task: Task | None = None, **options: Any) -> Ticket:
    return early_bird(network("batch-norm"), task or work(), density, **options)


def emergence(distances: Any, masks: int, threshold: float) -> int | None:
    """Return the first epoch at which the rule holds."""
    for epoch, row in enumerate(distances):
        if epoch >= masks - 1 and all(d <= threshold for d in row[epoch - masks + 1 :]):
            return epoch
    return None


def dense(epochs: int) -> nn.Module:
    net, task = network("batch-norm"), work()
    task.fit(net, stop=epochs * task.steps_per_epoch)
    return net


@pytest.mark.parametrize(("masks", "threshold"), [(5, 0.1), (2, 0.05), (3, 0.02), (7, 0.12)])
def test_the_epoch_of_emergence(masks: int, threshold: float) -> None:
    """It is the first at which the last masks are close, and the ticket starts there."""
    ticket = found(masks=masks, threshold=threshold)
    epoch = emergence(ticket.distances, masks, threshold)
    assert epoch is not None
    assert len(ticket.distances) == epoch + 1
    assert ticket.start == epoch * work().steps_per_epoch
    assert ticket.notes == ()


def test_the_cases_differ() -> None:
    """Among the cases above are different epochs, and later ones than the earliest possible."""
    cases = [(5, 0.1), (2, 0.05), (3, 0.02), (7, 0.12)]
    epochs = [len(found(masks=m, threshold=t).distances) - 1 for m, t in cases]
    assert len(set(epochs)) > 1
    assert any(epoch > masks - 1 for epoch, (masks, _) in zip(epochs, cases, strict=True))


def test_weights_and_masks_are_of_the_dense_run() -> None:
    """The weights are those of a dense training of as many epochs, and the mask is of these."""
    ticket = found()
    assert ticket.weights is not None
    assert isinstance(ticket.mask, Scores)
    net = dense(len(ticket.distances) - 1)
    for name, value in state_of(net).items():
        assert torch.equal(value, ticket.weights[name]), name
    sizes = {name: weight.detach().abs() for name, weight in prunable(net).items()}
    mask = select(ticket.mask, net, 0.4)
    assert all(torch.equal(mask[name], layer) for name, layer in top(sizes).items())


def top(sizes: dict[str, torch.Tensor]) -> Mask:
    return keep_top(sizes, round(0.4 * sum(s.numel() for s in sizes.values())))


def test_distances_are_of_the_masks_at_the_start_of_epochs() -> None:
    """Each is counted again from a dense run, from initialization on."""
    ticket = found()
    masks = []
    for epochs in range(len(ticket.distances)):
        weights = prunable(dense(epochs))
        masks.append(flatten(top({name: w.detach().abs() for name, w in weights.items()})))
    for row, mask in zip(ticket.distances, masks, strict=True):
        counted = [float((mask != other).double().mean()) for other in masks[: len(row)]]
        assert row == pytest.approx(counted, abs=1e-12)


def test_from_initialization() -> None:
    """The same mask, without weights, and the whole recipe."""
    late, early = found(), found(start="initialization")
    assert (early.weights, early.start) == (None, 0)
    assert early.distances == late.distances
    net = network("batch-norm")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            select(late.mask, net, 0.4).values(), select(early.mask, net, 0.4).values(), strict=True
        )
    )


def test_the_cost_is_that_of_the_epochs() -> None:
    """Only the epochs before the emergence are trained."""
    task = work()
    ticket = found(task=task)
    assert task.cost.forward == (len(ticket.distances) - 1) * task.examples


def test_none_emerges() -> None:
    """The mask at the start of the last epoch is taken, and a note says why none emerged."""
    ticket = found(threshold=0.0)
    assert len(ticket.distances) == EPOCHS
    assert ticket.start == (EPOCHS - 1) * work().steps_per_epoch
    assert ticket.notes[0].startswith("no ticket emerged: the last distance was 0.")
    short = found(task=work(3))
    assert short.notes == ("no ticket emerged: the recipe is shorter than 5 epochs",)
    assert short.start == 2 * work().steps_per_epoch


def test_no_more_masks_than_a_record_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a search with more masks, the first ones are in the record."""
    whole = found(threshold=0.0)
    monkeypatch.setattr(module, "MOST_MASKS", 5)
    assert found(threshold=0.0).distances == whole.distances[:5]
    assert found(threshold=0.0).start == whole.start


def test_a_recipe_of_one_epoch() -> None:
    """There is only the mask of initialization."""
    ticket = found(task=work(1))
    assert (ticket.start, ticket.distances) == (0, ((),))


@pytest.mark.parametrize("density", [0.04, 0.05])
def test_sparse_masks_are_always_close(density: float) -> None:
    """Two masks of density d differ in at most 2 d of the weights, as the documentation says."""
    ticket = found(density)
    assert len(ticket.distances) == 5
    assert all(d <= 2 * density + 0.01 for row in ticket.distances for d in row)


def test_a_mask_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of all weights are equal, so that a ticket emerges as early as possible."""
    ticket = found(1.0, masks=2)
    assert ticket.distances == ((), (0.0,))
    net = network("batch-norm")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            select(ticket.mask, net, 1.0).values(), full(prunable(net)).values(), strict=True
        )
    )
    # the check of the epoch sees a search that never compares
    monkeypatch.setattr(module._Search, "_draw", lambda self: 0.0)
    assert found().distances == ()


@pytest.mark.parametrize(
    "options",
    [{"threshold": 1.5}, {"threshold": -0.1}, {"masks": 1}, {"l1": -1.0, "units": "channel"}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    """They are named with their values."""
    with pytest.raises(UserError, match="early_bird: threshold"):
        found(**options)


def chain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )


def by_channel(density: float = 0.4, **options: Any) -> Ticket:
    return early_bird(chain(), work(), density, units="channel", **options)


def test_channels() -> None:
    """The scores are the scales of a dense run, and distances are those of masks of channels."""
    ticket = by_channel(masks=3)
    assert isinstance(ticket.mask, Channels)
    epochs = len(ticket.distances) - 1
    assert emergence(ticket.distances, 3, 0.1) == epochs
    net, drawn = chain(), []
    for epoch in range(epochs + 1):
        net = chain()
        work().fit(net, stop=epoch * work().steps_per_epoch)
        scales = [net.get_parameter(name).detach().abs() for name in ("1.weight", "4.weight")]
        now = replace(ticket.mask, scores=torch.cat(scales))
        kept_count = round(0.4 * total(prunable(net)))
        drawn.append(removed_channels(now, prunable(net), kept_count))
    assert torch.equal(ticket.mask.scores, torch.cat(scales))
    for row, mask in zip(ticket.distances, drawn, strict=True):
        counted = [float((mask != other).double().mean()) for other in drawn[: len(row)]]
        assert row == pytest.approx(counted, abs=1e-12)


def test_the_mask_of_channels() -> None:
    """It has at most the weights of the density, and a channel more would be too many."""
    ticket, net = by_channel(0.4), chain()
    mask = select(ticket.mask, net, 0.4)
    kept, most = sum(layer_counts(mask).values()), round(0.4 * total(prunable(net)))
    # a channel of the second layer has 9 weights for each channel before it, and 3 in the head
    assert most - (9 * 8 + 9 * 2) <= kept <= most
    rows = mask["3.weight"].flatten(2).all(2).any(1)
    assert torch.equal(rows, mask["8.weight"].any(0))


def test_the_penalty_shrinks_scales() -> None:
    """The L1 penalty acts on the scales of the channels, in the search alone."""
    plain, shrunk = (by_channel(threshold=0.0, l1=l1).mask for l1 in (0.0, 0.05))
    assert isinstance(plain, Channels) and isinstance(shrunk, Channels)
    assert float(shrunk.scores.sum()) < 0.8 * float(plain.scores.sum())


def test_no_channels() -> None:
    """A network without removable channels is refused, and so is a penalty without channels."""
    with pytest.raises(UserError, match="early_bird: no channels can be removed"):
        found(units="channel")
    with pytest.raises(UserError, match="early_bird: l1 has no effect with units = 'weight'"):
        found(l1=1e-4)

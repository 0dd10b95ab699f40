"""What all finders of the suite keep to, besides what any method must: see `test_conformance`."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from paibench.methods.conformance.networks import network, task
from paibench.methods.core.mask import Mask, layer_counts, prunable
from paibench.methods.core.mask_file import digest
from paibench.methods.core.registry import get, names
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import as_ticket, select

METHODS = [name for name in names() if name != "dense"]
ONE_SHOT: dict[str, dict[str, Any]] = {  # whose scores do not depend on the density
    "magnitude": {},
    "random": {},
    "snip": {},
    "grasp": {},
    "synflow": {"iterations": 1},
}


def mask_of(method: str, net: nn.Module, given: Task, asked: float, **options: Any) -> Mask:
    found = get(method)(copy.deepcopy(net), given, asked, **options)
    return select(as_ticket(found).mask, net, asked)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_as_before(method: str) -> None:
    """A search changes no weight, buffer, gradient or flag of its network."""
    net = network("batch-norm").train()
    before = copy.deepcopy(net.state_dict())
    get(method)(net, task(), 0.2)
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(before[name], value), name


@pytest.mark.parametrize("method", METHODS)
def test_inverted_scores_keep_as_many(method: str) -> None:
    """The control `invert` keeps the exact count too, but different weights."""
    net = network("batch-norm")
    found = as_ticket(get(method)(copy.deepcopy(net), task(), 0.2)).mask
    mask, inverse = select(found, net, 0.2), select(found, net, 0.2, invert=True)
    assert sum(layer_counts(inverse).values()) == sum(layer_counts(mask).values())
    assert digest(inverse) != digest(mask)


@pytest.mark.parametrize("method", ONE_SHOT)
def test_one_shot_masks_are_nested(method: str) -> None:
    """A sparser mask of a one-shot method lies within a denser one."""
    net = network("batch-norm")
    options = ONE_SHOT[method]
    masks = [mask_of(method, net, task(), asked, **options) for asked in (0.7, 0.3, 0.1, 0.02)]
    for wide, narrow in zip(masks, masks[1:], strict=False):
        assert all(bool((wide[name] | ~narrow[name]).all()) for name in wide)


@pytest.mark.parametrize("method", ["magnitude", "snip", "grasp", "synflow"])
def test_permuting_hidden_units_permutes_the_mask(method: str) -> None:
    """Permuting hidden units permutes the mask in the same way."""
    net = network("bias-free", torch.float64)
    order = torch.tensor([3, 1, 4, 0, 8, 2, 7, 6, 5])
    other = copy.deepcopy(net)
    first, last = prunable(other).values()
    with torch.no_grad():
        first.copy_(first[order])
        last.copy_(last[:, order])
    mask = mask_of(method, net, task(dtype=torch.float64), 0.2)
    permuted = mask_of(method, other, task(dtype=torch.float64), 0.2)
    first_name, last_name = mask
    assert torch.equal(permuted[first_name], mask[first_name][order])
    assert torch.equal(permuted[last_name], mask[last_name][:, order])


@pytest.mark.parametrize("method", METHODS)
def test_pruned_weights_stay_zero_through_training(method: str) -> None:
    """After steps with momentum and weight decay, exactly the pruned weights are 0."""
    net, given = network("batch-norm"), task()
    mask = mask_of(method, net, given, 0.2)
    given.fit(net, mask=mask, weight_decay=0.01, nesterov=True)
    for name, weight in prunable(net).items():
        assert bool((weight[~mask[name]] == 0).all()), name
        assert bool((weight[mask[name]] != 0).all()), name


def test_dense_keeps_everything_and_nothing_else() -> None:
    """The dense reference keeps all weights and refuses other densities."""
    net = network("batch-norm")
    assert all(bool(kept.all()) for kept in get("dense")(net, task(), 1.0).values())
    with pytest.raises(ValueError, match=r"density 0\.5 must be 1"):
        get("dense")(net, task(), 0.5)

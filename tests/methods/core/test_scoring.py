"""What holds for every finder that scores weights, and what the two that use data share."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.baselines.magnitude import magnitude
from paibench.methods.baselines.random import random
from paibench.methods.core.mask import layer_counts, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import losses, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, select
from paibench.methods.saliency.grasp import grasp
from paibench.methods.saliency.snip import snip
from paibench.methods.saliency.synflow import synflow
from paibench.methods.training.recipe import Recipe

Finder = Callable[..., Scores]
DETERMINED = (magnitude, snip, grasp, synflow)
every = pytest.mark.parametrize("finder", (random, *DETERMINED), ids=lambda f: f.__name__)
determined = pytest.mark.parametrize("finder", DETERMINED, ids=lambda f: f.__name__)


def small() -> nn.Sequential:
    """2 channels of 6 x 6 pixels to 4 classes, 334 prunable weights."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 8),
        nn.ReLU(),
        nn.Linear(8, 4),
    )
    return net.double()


def task(seed: int = 0, recipe: Recipe | None = None) -> Task:
    draw = torch.Generator().manual_seed(7)
    inputs = torch.rand(60, 2, 6, 6, generator=draw, dtype=torch.float64)
    return Task.of(inputs, torch.arange(60) % 4, classes=4, seed=seed, recipe=recipe)


@every
@pytest.mark.parametrize("density", [1.0, 0.5, 0.0987, 0.003])
def test_counts(finder: Finder, density: float) -> None:
    """Exactly round(density * total) weights are kept, at density 1 all of them."""
    net = small()
    mask = select(finder(net, task(), density), net, density)
    assert list(mask) == list(prunable(net))
    assert sum(layer_counts(mask).values()) == round(density * 334)


@every
def test_leaves_all_as_it_was(finder: Finder) -> None:
    """Weights, buffers, gradients, training flags and global randomness are as before."""
    net = small().train()
    net[0].eval()
    net(torch.rand(4, 2, 6, 6, dtype=torch.float64)).sum().backward()
    before, training = deepcopy(states(net)), [module.training for module in net.modules()]
    noise, default = torch.get_rng_state(), torch.get_default_dtype()
    finder(net, task(), 0.1)
    assert all(torch.equal(a, b) for a, b in zip(states(net), before, strict=True))
    assert [module.training for module in net.modules()] == training
    assert torch.equal(torch.get_rng_state(), noise)
    assert torch.get_default_dtype() == default and torch.is_grad_enabled()


def states(net: nn.Module) -> list[Tensor]:
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert len(gradients) == len(list(net.parameters()))
    return [*net.state_dict().values(), *gradients]


@every
def test_repeats(finder: Finder) -> None:
    """The same seed gives the same scores, bit for bit, and they are finite."""
    first, second = (finder(small(), task(), 0.1).values for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(bool(score.isfinite().all()) for score in first.values())


@pytest.mark.parametrize("finder", (random, magnitude, snip, grasp), ids=lambda f: f.__name__)
def test_nested(finder: Finder) -> None:
    """One-shot masks are nested: what a lower density keeps, a higher one keeps."""
    net = small()
    few, many = (select(finder(net, task(), density), net, density) for density in (0.05, 0.3))
    assert all(bool((many[name] | ~few[name]).all()) for name in few)


@determined
def test_hidden_channels_may_be_permuted(finder: Finder) -> None:
    """Permuting hidden channels permutes the mask."""
    net, turned, new = small(), small(), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        turned.get_parameter("0.weight").copy_(net.get_parameter("0.weight")[new])
        turned.get_parameter("3.weight").copy_(net.get_parameter("3.weight")[:, new])
    # After a round of SynFlow, weights on one path have equal scores up to rounding, which depends
    # on the order of sums; so this test does one round.
    options = {"iterations": 1} if finder is synflow else {}
    mask, after = (select(finder(n, task(), 0.2, **options), n, 0.2) for n in (net, turned))
    assert torch.equal(after["0.weight"], mask["0.weight"][new])
    assert torch.equal(after["3.weight"], mask["3.weight"][:, new])
    assert torch.equal(after["8.weight"], mask["8.weight"])


@every
def test_frozen_weights_are_scored(finder: Finder) -> None:
    """A network whose parameters do not require gradients can be scored."""
    net = small().requires_grad_(False)
    values = finder(net, task(), 0.1).values
    expected = finder(small(), task(), 0.1).values
    assert all(torch.equal(values[name], expected[name]) for name in expected)


@pytest.mark.parametrize("finder", (snip, grasp), ids=lambda f: f.__name__)
def test_data_are_not_augmented(finder: Finder) -> None:
    """The recipe's augmentation does not touch the scoring data."""
    plain, moved = (Recipe(epochs=1, augment=how) for how in ("none", "crop-flip"))
    values, others = (finder(small(), task(recipe=r), 0.1).values for r in (plain, moved))
    assert all(torch.equal(values[name], others[name]) for name in values)


@pytest.mark.parametrize("finder", (snip, grasp), ids=lambda f: f.__name__)
@pytest.mark.parametrize("option", ["per_class", "batch"])
def test_bad_options(finder: Finder, option: str) -> None:
    """A number of examples below 1 is refused in one line that names the option."""
    with pytest.raises(UserError, match=f"^{option} = 0 is out of range; give 1 or more$"):
        finder(small(), task(), 0.1, **{option: 0})


@pytest.mark.parametrize(("finder", "inputs"), [(magnitude, 0), (random, 0), (synflow, 100)])
def test_data_free(finder: Finder, inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data-free finders read no example; an input of ones for each round counts."""
    monkeypatch.setattr(Task, "batches", None)
    work = task()
    finder(small(), work, 0.1)
    assert (work.cost.forward, work.cost.backward) == (inputs, inputs)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_scoring_copy_is_a_function(mode: str) -> None:
    """Two passes through the copy agree, with dropout and with any norm."""
    copy = scoring_copy(small(), mode)  # type: ignore[arg-type]
    inputs = torch.rand(4, 2, 6, 6, dtype=torch.float64)
    assert torch.equal(copy(inputs), copy(inputs))
    assert [type(m) for m in copy.modules() if m.training] == [nn.BatchNorm2d] * (mode == "train")


def test_losses() -> None:
    """Ten examples of each of 4 classes come in batches of at most 16, the same at each call."""
    net = scoring_copy(small(), "eval")
    found = list(losses(net, task(), per_class=10, batch=16))
    again = list(losses(net, task(), per_class=10, batch=16))
    assert [count for _, count in found] == [16, 16, 8]
    assert [loss.item() for loss, _ in found] == [loss.item() for loss, _ in again]


@pytest.mark.parametrize("finder", (snip, grasp), ids=lambda f: f.__name__)
def test_a_last_example_alone(finder: Finder) -> None:
    """A batch norm of single pixels can be scored if the last batch would have one example."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)).double()
    values = finder(net, task(), 0.1, batch=13).values  # 40 examples are 3 batches of 13 and one
    expected = finder(net, task(), 0.1, per_class=9, batch=13).values
    assert all(bool(value.isfinite().all()) for value in values.values())
    assert list(values) == list(expected)
    assert [count for _, count in losses(net, task(), per_class=10, batch=13)] == [13, 13, 13]


@pytest.mark.parametrize("finder", (snip, grasp), ids=lambda f: f.__name__)
@pytest.mark.parametrize("options", [{"batch": 1}, {"per_class": 1}], ids=str)
def test_batches_of_one(finder: Finder, options: dict[str, int]) -> None:
    """Batches of one example are refused in one line if a batch norm needs more."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)).double()
    one = Task.of(torch.rand(1, 2, 6, 6, dtype=torch.float64), torch.zeros(1), classes=4)
    with pytest.raises(UserError, match="^batch norms cannot use the statistics of 1 example; "):
        finder(net, one if "per_class" in options else task(), 0.1, **options)
    finder(net, task(), 0.1, mode="eval", **options)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperature(temperature: float) -> None:
    """A temperature that is not a positive number is refused."""
    with pytest.raises(UserError, match="^temperature = .* give a positive number$"):
        grasp(small(), task(), 0.1, temperature=temperature)

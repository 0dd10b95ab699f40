"""Zhou supermasks: probabilities are learned, masks are drawn, densities share one search."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from paibench.methods.core.mask import Weights, flatten, prunable, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket, select
from paibench.methods.supermasks.zhou import Stochastic, zhou
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import Services, State

OPTIONS = list(itertools.product([False, True], repeat=2))  # signed_constant, rescale


def mlp() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 2))


def frozen(net: nn.Module) -> Weights:
    return {name: weight.detach() for name, weight in prunable(net).items()}


def blobs(memo: "Shelf | None" = None, epochs: int = 3) -> Task:
    """Two classes around opposite points."""
    labels = torch.arange(64) % 2
    inputs = randn(64, 8) * 0.5 + (2 * labels[:, None] - 1) * torch.linspace(-1, 1, 8)
    recipe = Recipe(epochs=epochs, batch=16)
    task = Task.of(inputs, labels, classes=2, recipe=recipe)
    return (
        task if memo is None else Task(task._data, seed=0, recipe=recipe, services=Services(memo))
    )


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def stochastic(rescale: bool = False, seed: int = 0) -> Stochastic:
    return Stochastic(torch.Generator().manual_seed(seed), rescale)


def test_mask_mean_is_the_probability() -> None:
    """Over many draws a weight is used as often as the sigmoid of its logit says."""
    logits = torch.tensor([-4.0, -1.0, 0.0, 0.5, 3.0])
    sample = stochastic()
    draws = [sample(logits, {"a": torch.ones(5)})["a"] for _ in range(10_000)]
    mean = torch.stack(draws).mean(0)
    assert ((mean - logits.sigmoid()).abs() < 0.02).all()  # four standard errors
    assert set(torch.stack(draws).flatten().tolist()) == {0.0, 1.0}


def test_certain_logits_are_certain() -> None:
    """At probabilities 0 and 1 the mask is certain."""
    logits = torch.tensor([-1e4, 1e4]).repeat(500)
    used = stochastic()(logits, {"a": torch.ones(1000)})["a"]
    assert torch.equal(used, torch.tensor([0.0, 1.0]).repeat(500))


def test_rescaling_is_size_over_ones() -> None:
    """Each layer's effective weights are the masked ones times its size over the mask's ones."""
    weights = {"a": randn(6, 5), "b": randn(40)}
    logits = randn(70)
    plain, scaled = stochastic()(logits, weights), stochastic(rescale=True)(logits, weights)
    for name, weight in weights.items():
        ones = int((plain[name] != 0).sum())
        assert torch.equal(scaled[name], plain[name] * (weight.numel() / ones))


def test_rescaling_an_empty_mask_is_zero_and_finite() -> None:
    """A layer with an empty mask has weights 0 and a finite gradient."""
    logits = torch.full((4,), -60.0, requires_grad=True)
    used = stochastic(rescale=True)(logits, {"a": torch.ones(4)})["a"]
    torch.autograd.backward(used.sum())
    assert used.tolist() == [0.0] * 4
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("rescale", [False, True], ids=["plain", "rescaled"])
def test_gradient_of_the_logits(rescale: bool) -> None:
    """It is dL/dmask * sigma'(m), the mask's ones in the rescaling included."""
    net, inputs, labels = mlp().double(), randn(6, 8).double(), torch.arange(6) % 2
    weights = frozen(net)
    logits = randn(240).double().requires_grad_()
    used = stochastic(rescale)(logits, weights)
    torch.autograd.backward(F.cross_entropy(functional_call(net, used, (inputs,)), labels))

    mask = (flatten(stochastic()(logits, weights)) != 0).double().requires_grad_()
    parts = unflatten(mask, weights)
    factor = {n: m.numel() / m.sum() if rescale else 1.0 for n, m in parts.items()}
    tied = {name: weights[name] * parts[name] * factor[name] for name in weights}
    torch.autograd.backward(F.cross_entropy(functional_call(net, tied, (inputs,)), labels))
    assert logits.grad is not None and mask.grad is not None
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, mask.grad * p * (1 - p), rtol=1e-12, atol=1e-15)


def test_search_starts_at_half() -> None:
    """Logits start at 0: before anything is learned, half of the weights are used."""
    ticket = zhou(mlp(), blobs(), 0.3, lr=1e-30, samples=20)
    used = torch.stack([flatten(native) != 0 for native in ticket.native]).double().mean()
    assert abs(used - 0.5) < 0.03  # four standard errors of 4800 draws


@pytest.mark.parametrize(("signed_constant", "rescale"), OPTIONS)
def test_native_supermasks_are_drawn_weights(signed_constant: bool, rescale: bool) -> None:
    """Each is the frozen weights times its own mask, times size over ones when rescaled."""
    net = mlp()
    ticket = zhou(
        net, blobs(), 0.3, signed_constant=signed_constant, rescale=rescale, lr=5.0, samples=4
    )
    assert len(ticket.native) == 4
    assert not torch.equal(flatten(ticket.native[0]), flatten(ticket.native[1]))
    start = ticket.weights if signed_constant else frozen(net)
    assert start is not None
    for native in ticket.native:
        for name, weight in start.items():
            mask = native[name] != 0
            factor = mask.numel() / int(mask.sum()) if rescale else 1.0
            assert torch.equal(native[name], weight * mask * factor)


def test_signed_constant_is_the_population_deviation() -> None:
    """Each weight becomes its sign times the layer's deviation; else the weights are the net's."""
    net = mlp()
    ticket = zhou(net, blobs(), 0.3, signed_constant=True, samples=1)
    assert ticket.weights is not None
    for name, weight in prunable(net).items():
        w = weight.detach().double()
        deviation = ((w - w.mean()) ** 2).mean().sqrt()
        torch.testing.assert_close(ticket.weights[name].double(), w.sign() * deviation)
    assert zhou(net, blobs(), 0.3, samples=1).weights is None


class Shelf:
    """A memo that remembers."""

    def __init__(self) -> None:
        self.stages: dict[str, State] = {}

    def __call__(self, name: str, compute: Callable[[], State]) -> State:
        if name not in self.stages:
            self.stages[name] = compute()
        return self.stages[name]


def test_densities_share_one_search() -> None:
    """The second density finds the first one's search, and its masks are nested."""
    shelf = Shelf()
    dense, sparse = (zhou(mlp(), blobs(shelf), density, lr=5.0) for density in (0.6, 0.2))
    assert len(shelf.stages) == 1
    more, less = select(dense.mask, mlp(), 0.6), select(sparse.mask, mlp(), 0.2)
    assert all(bool((more[name] | ~less[name]).all()) for name in more)
    alone = zhou(mlp(), blobs(), 0.2, lr=5.0)
    assert_same(sparse, alone)


def assert_same(one: Ticket, two: Ticket) -> None:
    assert isinstance(one.mask, Scores) and isinstance(two.mask, Scores)
    assert torch.equal(flatten(one.mask.values), flatten(two.mask.values))
    for first, second in zip(one.native, two.native, strict=True):
        assert torch.equal(flatten(first), flatten(second))


def test_options_have_searches_of_their_own() -> None:
    """What changes the search has its own stage; the number of samples does not."""
    shelf = Shelf()
    for signed_constant, rescale in OPTIONS:
        zhou(mlp(), blobs(shelf), 0.3, signed_constant=signed_constant, rescale=rescale)
    zhou(mlp(), blobs(shelf), 0.3, lr=50.0)
    zhou(mlp(), blobs(shelf), 0.3, samples=3)
    assert len(shelf.stages) == len(OPTIONS) + 1


def test_the_mask_is_the_global_top_by_logit() -> None:
    """No weight that is kept has a lower logit than one that is pruned, over all layers."""
    ticket = zhou(mlp(), blobs(), 0.3, lr=5.0)
    assert isinstance(ticket.mask, Scores) and ticket.mask.kept is None
    values, kept = flatten(ticket.mask.values), flatten(select(ticket.mask, mlp(), 0.3))
    assert values[kept].min() >= values[~kept].max()


def test_the_drawn_masks_learn() -> None:
    """After the search, sampled masks of random weights solve a linear problem."""
    net, task = mlp(), blobs(epochs=40)
    (inputs, labels), *_ = task.batches()

    def accuracy(lr: float) -> float:
        natives = zhou(net, blobs(epochs=40), 0.3, lr=lr).native
        right = [functional_call(net, native, (inputs,)).argmax(1) == labels for native in natives]
        return float(torch.stack(right).double().mean())

    assert accuracy(20.0) >= 0.9 > accuracy(1e-9) + 0.1


def test_samples_must_be_drawn() -> None:
    """A request for no sample is refused in one line."""
    with pytest.raises(UserError, match=r"^zhou: samples = 0 must be at least 1$"):
        zhou(mlp(), blobs(), 0.3, samples=0)

"""GraSP's Hessian-gradient product against finite differences, closed forms and its sign."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn import functional as F

from paibench.methods.core.mask import flatten, prunable, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.grasp import grasp, hessian_gradient
from paibench.methods.saliency.prospr import prospr
from paibench.methods.saliency.second_derivatives import TwiceDifferentiable


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4, eps=1e-14),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2, bias=False),
        nn.BatchNorm2d(3, eps=1e-14),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 4),
    ).double()


def task() -> Task:
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randn(48, 2, 5, 5, generator=draw, dtype=torch.float64)
    return Task.of(inputs, torch.arange(48) % 4, classes=4)


def scores(**options: object) -> Tensor:
    return flatten(grasp(net(), task(), 0.1, **options).values)  # type: ignore[arg-type]


def gradient_at(temperature: float) -> Callable[[Tensor], Tensor]:
    """The gradient of the loss on the scoring data, as a function of all weights."""
    copy = scoring_copy(net(), "train")
    ((inputs, labels),) = task().batches(per_class=10)

    def gradient(flat: Tensor) -> Tensor:
        parts = unflatten(flat, prunable(copy))
        parts = {name: part.requires_grad_() for name, part in parts.items()}
        loss = F.cross_entropy(functional_call(copy, parts, (inputs,)) / temperature, labels)
        return flatten(
            dict(zip(parts, torch.autograd.grad(loss, list(parts.values())), strict=True))
        )

    return gradient


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_finite_differences(temperature: float) -> None:
    """Hg is the central difference of the gradient along g."""
    gradient, weights = gradient_at(temperature), flatten(prunable(net()))
    g = gradient(weights)
    step = 1e-5 / float(g.norm())
    product = (gradient(weights + step * g) - gradient(weights - step * g)) / (2 * step)
    found = scores(temperature=temperature)
    torch.testing.assert_close(
        found, weights * product, rtol=1e-5, atol=1e-7 * float(found.abs().max())
    )


def test_half_the_gradient_of_the_squared_norm() -> None:
    """Two passes over the data give half the gradient of |g|^2, as one pass would."""
    copy = scoring_copy(net(), "train")
    parts = list(prunable(copy).values())
    ((inputs, labels),) = task().batches(per_class=10)
    loss = F.cross_entropy(copy(inputs) / 200, labels)
    squares = [g.square().sum() for g in torch.autograd.grad(loss, parts, create_graph=True)]
    halves = torch.autograd.grad(torch.stack(squares).sum() / 2, parts)
    expected = torch.cat([(p * h).detach().reshape(-1) for p, h in zip(parts, halves, strict=True)])
    torch.testing.assert_close(scores(), expected, rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("temperature", [1.0, 200.0])
@pytest.mark.parametrize("batch", [256, 16], ids=["one batch", "three batches"])
def test_filters_before_a_batch_norm(temperature: float, batch: int) -> None:
    """For each filter before a batch norm, w * Hg sums to -|g|^2 of the filter.

    The gradient is homogeneous of degree -1 there. This holds for the sign, for the second
    derivative and for several batches, whose losses are averaged before |g|^2 is taken.
    """
    copy = scoring_copy(net(), "train")
    parts = [copy.get_parameter("0.weight"), copy.get_parameter("3.weight")]
    batches = list(task().batches(per_class=10, size=batch))
    losses = [
        F.cross_entropy(copy(inputs) / temperature, labels) * len(labels) / 40
        for inputs, labels in batches
    ]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), parts)
    values = grasp(net(), task(), 0.1, temperature=temperature, batch=batch).values
    for name, g in zip(("0.weight", "3.weight"), gradients, strict=True):
        sums, squares = values[name].flatten(1).sum(1), g.square().flatten(1).sum(1)
        torch.testing.assert_close(sums, -squares, rtol=1e-9, atol=0)
        assert bool((sums < 0).all())


def test_quadratic() -> None:
    """For L = w'Aw / 2 the product is AAw, so that the authors' S is -w * AAw."""
    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    (g,), (hg,) = hessian_gradient(lambda: [(w @ a @ w / 2, 5)], [w])
    assert torch.equal(g, torch.tensor([0.0, -5.0], dtype=torch.float64))
    assert torch.equal(-w * hg, torch.tensor([5.0, -30.0], dtype=torch.float64))


def test_mean_over_examples() -> None:
    """Batches count by their examples: 1 of w^2 and 3 of 2w^2 are the mean loss 7/4 w^2."""
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)

    def losses() -> Iterator[tuple[Tensor, int]]:
        yield w.square().sum(), 1
        yield 2 * w.square().sum(), 3

    (g,), (hg,) = hessian_gradient(losses, [w])
    assert (float(g), float(hg)) == (3.5, 3.5 * 3.5)


def test_what_goes_first() -> None:
    """Shrinking the weight with the highest score lowers |g|^2 most, with the lowest raises it."""
    gradient, weights, found = gradient_at(200.0), flatten(prunable(net())), scores()
    changes = []
    for place in range(len(weights)):
        less = weights.clone()
        less[place] *= 1 - 1e-4
        changes.append(gradient(less).square().sum() - gradient(weights).square().sum())
    change = torch.stack(changes)
    assert int(change.argmin()) == int(found.argmax())
    assert int(change.argmax()) == int(found.argmin())
    assert float(change.min()) < 0 < float(change.max())


def test_temperature() -> None:
    """Scores fall as 1 / T^2 and keep their order once T is high, unlike from T = 1 to 200."""
    hot, hotter = scores(temperature=1e4) * 1e8, scores(temperature=1e5) * 1e10
    torch.testing.assert_close(hot, hotter, rtol=1e-2, atol=1e-3 * float(hot.abs().max()))
    assert overlap(hot, hotter) > 0.95 > overlap(scores(temperature=1.0), scores())


def overlap(one: Tensor, other: Tensor) -> float:
    """The share of the 40 highest that two score vectors have in common."""
    first, second = (set(flat.topk(40).indices.tolist()) for flat in (one, other))
    return len(first & second) / 40


def test_batch_size_in_eval() -> None:
    """Without batch statistics the size of the batches does not matter."""
    whole, parts = (scores(mode="eval", batch=size) for size in (40, 17))
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-18)


def test_absolute_scores() -> None:
    """`abs` gives the absolute value of the signed score."""
    assert torch.equal(scores(score="abs"), scores().abs())
    assert float(scores().min()) < 0


def test_cost() -> None:
    """Each example passes forward twice, backward twice, and once through a backward."""
    work = task()
    grasp(net(), work, 0.1, per_class=3)
    assert (work.cost.forward, work.cost.backward) == (24, 36)


class Attention(nn.Module):
    """Self-attention over four tokens, then a linear map to 4 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(10, 2, batch_first=True)
        self.head = nn.Linear(50, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.flatten(1).view(-1, 5, 10)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        logits: Tensor = self.head(mixed.flatten(1))
        return logits


def test_attention() -> None:
    """Attention is differentiated twice too."""
    torch.manual_seed(0)
    values = grasp(Attention().double(), task(), 0.1).values
    assert set(values) == {"attention.in_proj_weight", "attention.out_proj.weight", "head.weight"}
    assert all(float(value.abs().max()) > 0 for value in values.values())


def test_overflow() -> None:
    """Scores that are not finite are refused."""
    huge = net()
    with torch.no_grad():
        huge.get_parameter("7.weight").fill_(float("inf"))
    with pytest.raises(UserError, match="^w . Hg is not finite"):
        grasp(huge, task(), 0.1)


class Gate(nn.Module):
    """Two linear maps with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.function, self.second = nn.Linear(50, 12), function, nn.Linear(12, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.second(self.function(self.first(inputs.flatten(1)) * 3))
        return logits


@pytest.mark.parametrize(
    ("function", "written_out"),
    [
        (F.hardsigmoid, lambda x: (x / 6 + 0.5).clamp(0, 1)),
        (nn.Hardsigmoid(), lambda x: (x / 6 + 0.5).clamp(0, 1)),
        (lambda x: F.hardsigmoid(x + 0, inplace=True), lambda x: (x / 6 + 0.5).clamp(0, 1)),
        (lambda x: torch._C._nn.hardsigmoid_(x + 0), lambda x: (x / 6 + 0.5).clamp(0, 1)),
        (lambda x: x * F.hardsigmoid(input=x), lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
        (nn.Hardswish(), lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
        (nn.Hardswish(inplace=True), lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
    ],
)
def test_hard_sigmoid(
    function: Callable[[Tensor], Tensor], written_out: Callable[[Tensor], Tensor]
) -> None:
    """Each form of a hard sigmoid scores as its formula, whose pieces torch can differentiate."""
    found, expected = (
        grasp(Gate(each).double(), task(), 0.1).values for each in (function, written_out)
    )
    for name, value in expected.items():
        assert float(value.abs().max()) > 0
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-18)


def test_stand_in() -> None:
    """The stand-in has the value and the first derivative of the hard sigmoid, at the edges too."""
    x = torch.cat([torch.linspace(-5, 5, 1001), torch.tensor([-3.0, 3.0])]).double()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(F.hardsigmoid(x).sum(), x)
    with TwiceDifferentiable():
        y = F.hardsigmoid(x)
    assert torch.equal(y, F.hardsigmoid(x))
    # torch itself rounds a sixth to float32
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], slope, rtol=1e-7, atol=0)


ACTIVATIONS = sorted(set(nn.modules.activation.__all__) - {"MultiheadAttention"})


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_torch(activation: str) -> None:
    """GraSP scores a network with any activation that torch has."""
    needs = {"Threshold": (0.1, 0.0), "GLU": (1,), "Softmax": (1,), "Softmin": (1,)}
    needs |= {"LogSoftmax": (1,), "Softmax2d": ()}
    function = getattr(nn, activation)(*needs.get(activation, ()))
    form: Callable[[Tensor], Tensor] = function
    if activation == "GLU":
        form = lambda x: function(torch.cat([x, x], dim=1))  # noqa: E731
    elif activation == "Softmax2d":
        form = lambda x: function(x[:, :, None, None])[:, :, 0, 0]  # noqa: E731
    values = grasp(Gate(form).double(), task(), 0.1).values
    assert all(bool(value.isfinite().all()) for value in values.values())


class Once(torch.autograd.Function):
    """The identity, whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 1


def fused(x: Tensor) -> Tensor:
    heads = x.view(-1, 1, 3, 4)
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attended: Tensor = attention(heads, heads, heads)[0]
    return attended.reshape(x.shape)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (Once.apply, "a function that is marked @once_differentiable"),
        (fused, "aten::_scaled_dot_product_flash_attention_for_cpu"),
    ],
)
@pytest.mark.parametrize("method", [grasp, prospr])
def test_no_second_derivative(
    method: Callable[..., Scores], function: Callable[[Tensor], Tensor], operation: str
) -> None:
    """An operation without a second derivative is named, and it is the network's."""
    with pytest.raises(
        UserError, match=f"^the method needs the second .* none of {operation}; use"
    ):
        method(Gate(function).double(), task(), 0.1)


def test_other_errors_of_the_network() -> None:
    """An error that has nothing to do with derivatives stays as it is."""
    with pytest.raises(RuntimeError, match="^shapes differ$"):
        grasp(Gate(raising).double(), task(), 0.1)


def raising(x: Tensor) -> Tensor:
    raise RuntimeError("shapes differ")

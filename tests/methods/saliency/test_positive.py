"""Flow through networks that are not rectifiers with batch norms: caps, norms, gates, sources."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.core.effective_density import effective
from paibench.methods.core.mask import collapsed, layer_counts, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import select
from paibench.methods.saliency.positive import SIZES, Flow, positive
from paibench.methods.saliency.synflow import synflow
from paibench.models.mobilenet_v2 import mobilenet_v2

SHAPE = (2, 6, 6)
SIZE = SIZES[torch.float64][0]


class Function(nn.Module):
    """A function as a module, with parameters that it may use."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, tensor in parameters.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **dict(self.named_parameters()))


def around(middle: nn.Module, channels: int = 6) -> nn.Sequential:
    """A convolution to 6 channels of 6 x 6, the module, a convolution, and a linear map."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        middle,
        nn.Conv2d(channels, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(180, 4),
    ).double()


def scores(net: nn.Module, precision: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """|w * dR/dw| of the positive network, over R."""
    flow = Flow(net, SHAPE, precision)
    whole = flow()
    slopes = torch.autograd.grad(whole, list(flow.weights.values()), materialize_grads=True)
    return {
        name: (weight * slope / whole).detach()
        for (name, weight), slope in zip(flow.weights.items(), slopes, strict=True)
    }


def task() -> Task:
    return Task.of(torch.zeros(4, *SHAPE, dtype=torch.float64), torch.arange(4), classes=4)


RECTIFIED = scores(around(nn.ReLU()))


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    assert list(found) == list(expected)
    for name, score in found.items():
        torch.testing.assert_close(score, expected[name], rtol=rtol, atol=0)


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU6(inplace=True),
        nn.Hardtanh(),
        nn.Hardswish(),
        nn.SiLU(),
        nn.GELU(),
        nn.Mish(),
        nn.Tanh(),
        nn.ELU(),
        nn.PReLU(),
        nn.LeakyReLU(),
        nn.Softsign(),
        Function(lambda x: x.clamp(0, 1e-3)),
        Function(lambda x: F.hardtanh(x, 0, 6)),
        Function(lambda x: x * torch.sigmoid(x)),
        Function(lambda x: x * F.relu6(x + 3) / 6),
    ],
    ids=str,
)
def test_activations(activation: nn.Module) -> None:
    """Caps and curves change no share of the flow: at a tiny input all are linear."""
    net = around(activation)
    with torch.no_grad():
        net.get_parameter("0.weight").mul_(1e6)  # the scores of a homogeneous network have no scale
    assert_equal(scores(net), RECTIFIED, 1e-12)


def test_mobilenet() -> None:
    """With ReLU6 no layer of MobileNet-V2 collapses, and most kept weights lie on a path."""
    torch.manual_seed(0)
    net = mobilenet_v2((2, 8, 8), 4, width=0.25)
    images = Task.of(torch.zeros(4, 2, 8, 8), torch.arange(4), classes=4)
    mask = select(synflow(net, images, 0.1, iterations=20), net, 0.1)
    assert not collapsed(mask)
    used = effective(net, mask, (2, 8, 8))
    assert used is not None and sum(layer_counts(used).values()) > 0.9 * 0.1 * total(mask)


def test_tiny_inputs_keep_every_bit() -> None:
    """For a network of rectifiers the flow of an input of ones is larger by the power of two."""
    net = around(nn.ReLU())
    flow, copy = Flow(net, SHAPE, torch.float64), positive(net)
    whole = copy(torch.ones(1, *SHAPE, dtype=torch.float64)).sum()
    assert torch.equal(flow() / SIZE, whole)
    expected = torch.autograd.grad(whole, [copy.get_parameter(name) for name in flow.weights])
    slopes = torch.autograd.grad(flow(), list(flow.weights.values()))
    assert all(torch.equal(a / SIZE, b) for a, b in zip(slopes, expected, strict=True))


def by_hand(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    variance = centred.pow(2).mean(1, keepdim=True)
    return centred / torch.sqrt(variance + 1e-6) * weight[:, None, None]


def by_variance(x: Tensor, weight: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, unbiased=False)
    return (x - mean) * torch.rsqrt(variance + 1e-6) * weight.view(1, -1, 1, 1)


def by_square(x: Tensor, weight: Tensor) -> Tensor:
    size = x.square().float().mean(dim=(2, 3), keepdim=True).add(1e-6).rsqrt().to(x.dtype)
    return x * size * weight.view(1, -1, 1, 1)


def by_deviation(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.std((1, 2, 3), keepdim=True) + 1e-5) * weight.view(1, -1, 1, 1)


def channels_last(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, weight: norm(x.permute(0, 2, 3, 1), (6,), weight).permute(0, 3, 1, 2)


SCALE = torch.tensor([1.0, 0.5, 0.0, -2.0, 0.0, 3.0])  # as many as the image has columns
NORMS: dict[str, Callable[..., Tensor]] = {
    "layer norm, channels last": channels_last(F.layer_norm),
    "RMS norm, channels last": channels_last(F.rms_norm),
    "layer norm of torch": channels_last(torch.layer_norm),
    "group norm": lambda x, weight: F.group_norm(x, 3, weight),
    "instance norm": lambda x, weight: F.instance_norm(x, weight=weight),
    "batch norm": lambda x, weight: F.batch_norm(x, None, None, weight, training=True),
    "batch norm of torch": lambda x, weight: torch.batch_norm(
        x, weight, None, None, None, True, 0.1, 1e-5, False
    ),
    "mean and root by hand": by_hand,
    "variance by hand": by_variance,
    "squares by hand": by_square,
    "deviation by hand": by_deviation,
    "length by hand": lambda x, weight: x / x.norm(dim=1, keepdim=True) * weight.view(-1, 1, 1),
    "F.normalize": lambda x, weight: F.normalize(x, dim=1) * weight.view(-1, 1, 1),
}


@pytest.mark.parametrize("norm", NORMS)
def test_norms(norm: str) -> None:
    """Any norm is its scale, along the axis of its channels; without scale no flow, no score."""
    found = scores(around(Function(NORMS[norm], weight=SCALE)))
    expected = scores(around(Function(lambda x, weight: x * weight[:, None, None], weight=SCALE)))
    assert_equal(found, expected, 1e-12)
    without = SCALE == 0
    assert bool((found["0.weight"][without] == 0).all())
    assert bool((found["2.weight"][:, without] == 0).all())
    assert bool((found["0.weight"][~without] > 0).all())


def test_norms_keep_the_size() -> None:
    """Behind a norm the flow is still tiny, so that no cap is reached there either."""
    norm, cap = nn.GroupNorm(1, 6), nn.Hardtanh(0, 1e-3)
    assert_equal(scores(around(nn.Sequential(norm, cap))), RECTIFIED, 1e-12)


def test_residual_norm() -> None:
    """A norm divides its own branch, and not the branch beside it."""
    found = scores(around(Function(lambda x: x + 3 * F.group_norm(1e9 * x, 2))))
    convolution = next(positive(around(nn.ReLU())).children())
    size = convolution(torch.ones(1, *SHAPE).double()).square().mean().sqrt()
    expected = scores(around(Function(lambda x: x + 3 * x / size)))
    assert_equal(found, expected, 1e-12)


def positions(x: Tensor, positions: Tensor) -> Tensor:
    return x + positions


def with_token(x: Tensor, token: Tensor) -> Tensor:
    return torch.cat([token.expand(len(x), -1, -1, -1), x], dim=1)


def test_sources() -> None:
    """Parameters that send flow without an input count as 0, as biases do; scales stay."""

    def scaled(x: Tensor, scale: Tensor, positions: Tensor) -> Tensor:
        return (x + positions) * scale.view(1, -1, 1, 1)

    moved = Function(scaled, scale=SCALE, positions=torch.rand(6, 6, 6))
    still = Function(scaled, scale=SCALE, positions=torch.zeros(6, 6, 6))
    assert_equal(scores(around(moved)), scores(around(still)), 0)
    tokens = (Function(with_token, token=f(1, 1, 6, 6)) for f in (torch.rand, torch.zeros))
    one, other = (scores(around(token, channels=7)) for token in tokens)
    assert_equal(one, other, 0)
    assert bool((one["2.weight"][:, 0] == 0).all())


class Encoded(nn.Module):
    """A sum with encodings of the positions, which are computed and pass a convolution."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size, self.projection = size, nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        waves = self.size * torch.arange(216, dtype=x.dtype).view(1, 6, 6, 6).sin().abs()
        encodings: Tensor = self.projection(waves)
        return x + encodings


def test_computed_encodings() -> None:
    """Encodings that a module computes without the input send no flow either."""
    found, expected = (scores(around(Encoded(size))) for size in (1.0, 0.0))
    assert_equal(found, expected, 0)
    assert not found["1.projection.weight"].any()


class Gated(nn.Module):
    """Channels times a function of their means, as in squeeze-and-excite."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.reduce, self.gate = nn.Conv2d(6, 6, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = self.gate(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * gates


@pytest.mark.parametrize("gate", [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softmax(dim=1)], ids=str)
def test_gates(gate: nn.Module) -> None:
    """A gate is a constant; weights that act only through it score least, but not below 0."""
    torch.manual_seed(0)
    found = scores(around(Gated(gate)))
    inside = found.pop("1.reduce.weight").abs()
    assert_equal(found, RECTIFIED, 1e-12)
    assert float(inside.max()) < 1e-30


@pytest.mark.parametrize(
    "product",
    [lambda a, b: a * F.silu(b), lambda a, b: a.clone().mul_(b), torch.mul],
    ids=["gated", "in place", "function"],
)
def test_products(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Two factors share the flow in halves, so that every cut of the network conserves it."""
    net = around(Function(lambda x: product(*x.chunk(2, dim=1))), channels=3)
    found = {name: float(score.sum()) for name, score in scores(net).items()}
    assert found == pytest.approx(dict.fromkeys(found, 1.0), rel=1e-12)
    first = scores(net)["0.weight"]
    assert float(first[:3].sum()) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("square", [lambda x: x.relu() ** 2, torch.square, lambda x: x * x])
def test_squares(square: Callable[[Tensor], Tensor]) -> None:
    """A square conserves the flow too."""
    found = {name: float(score.sum()) for name, score in scores(around(Function(square))).items()}
    assert found == pytest.approx(dict.fromkeys(found, 1.0), rel=1e-12)


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.half(),
        lambda x: x.float(),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.to(dtype=torch.float32),
        lambda x: x.type(torch.float16),
    ],
)
def test_casts(cast: Callable[[Tensor], Tensor]) -> None:
    """A network that computes in a narrower type is scored in the type that was asked for."""
    assert_equal(scores(around(Function(lambda x: cast(x).to(x.dtype)))), RECTIFIED, 1e-12)


def test_many_branches() -> None:
    """If activations grow beyond the caps even so, the input is made still smaller."""
    net = around(nn.Sequential(Function(lambda x: x * 2.0**250), nn.ReLU6()))
    assert_equal(scores(net), RECTIFIED, 1e-12)


def test_standardised_weights() -> None:
    """A norm of weights keeps them at their size: it is no norm of the input."""

    def standardised(x: Tensor) -> Tensor:
        weight = torch.ones(6, 6, dtype=x.dtype)
        weight = F.batch_norm(weight[None], None, None, training=True)[0]
        return F.conv2d(x, weight[:, :, None, None])

    summed = Function(lambda x: x.sum(1, keepdim=True).expand_as(x))
    assert_equal(scores(around(Function(standardised))), scores(around(summed)), 1e-12)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (nn.Sigmoid(), r"its output is not 0 for an input of 0 after 1 \(Sigmoid\)"),
        (nn.Softplus(), r"its output is not 0 for an input of 0 after 1 \(Softplus\)"),
        (nn.Hardshrink(), "its output is 0 for a tiny input of ones"),
        (Function(lambda x, d: x + 1 / (d + 1e-3), d=torch.ones(1)), "its output is not 0 for an"),
        (Function(lambda x: x**3), r"its output is not proportional to .* after 1 \(Function\)"),
    ],
    ids=["Sigmoid", "Softplus", "Hardshrink", "divisor", "cube"],
)
def test_networks_without_flow(middle: nn.Module, reason: str) -> None:
    """A network whose output is no multiple of its input is refused, and the reason named."""
    with pytest.raises(UserError, match=f"^the network has no synaptic flow: {reason}.*; use"):
        synflow(around(middle), task(), 0.5)


@pytest.mark.parametrize(
    "scale",
    [
        nn.BatchNorm2d(6),
        nn.GroupNorm(1, 6),
        Function(lambda x, scale: x * scale, scale=torch.ones(6)),
        Function(lambda x, scale: x.mul(scale.view(1, -1, 1, 1)), scale=torch.ones(6)),
    ],
    ids=["batch norm", "group norm", "scale", "view of a scale"],
)
def test_a_source_behind_a_gate(scale: nn.Module) -> None:
    """A value that passes a sigmoid is no source that can be set to 0, whatever scales follow."""
    with pytest.raises(UserError, match=r"after 1\.0 \(Sigmoid\)"):
        synflow(around(nn.Sequential(nn.Sigmoid(), scale)), task(), 0.5)


def test_reasons_for_scores_that_are_not_finite() -> None:
    """A weight, the forward pass or the gradient is to blame, and the message says which."""
    broken = around(nn.ReLU())
    with torch.no_grad():
        broken.get_parameter("0.weight")[0] = float("nan")
    with pytest.raises(UserError, match=r"^the network cannot be scored: 0\.weight is not finite$"):
        synflow(broken, task(), 0.5)
    large = around(Function(lambda x: x * 1e300 * 1e300))
    with pytest.raises(UserError, match=r"^the flow overflows float64 in 1 \(Function\)$"):
        synflow(large, task(), 0.5)
    with pytest.raises(
        UserError, match=r"^the flow overflows float32 in .*; use precision=float64$"
    ):
        synflow(around(Function(lambda x: x * 1e30 * 1e30)), task(), 0.5, precision="float32")
    roots = Function(lambda x, weight: (x * weight[:, None, None]).sqrt() ** 1.0, weight=SCALE)
    twice = around(nn.Sequential(roots, Function(lambda x: x**2.0)))
    with pytest.raises(UserError, match="^the flow .* is finite, but its gradient is not"):
        synflow(twice, task(), 0.5)


def test_a_norm_below_the_functions() -> None:
    """A norm that would be linear at a tiny input, and wrong, is refused by its name."""
    below = Function(lambda x: torch.native_layer_norm(x, (6,), None, None, 1e-5)[0])
    with pytest.raises(UserError, match="^synflow does not know the norm torch.native_layer_norm"):
        synflow(around(below), task(), 0.5)


def test_a_network_that_cannot_run() -> None:
    """What the network itself raises in the type of the flow is told in one line."""
    fixed = around(Function(lambda x: x @ torch.ones(6, 6)))
    with pytest.raises(UserError, match="^the network cannot be run in float64 .* RuntimeError: "):
        synflow(fixed, task(), 0.5)


def exhausted(x: Tensor) -> Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_a_lack_of_memory() -> None:
    """A lack of memory is no fault of the network."""
    with pytest.raises(RuntimeError, match="^DefaultCPUAllocator: can't allocate memory$"):
        synflow(around(Function(exhausted)), task(), 0.5)


class Recurrent(nn.Module):
    """An LSTM over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(36, 36, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.lstm(x.flatten(2))[0]
        return states.view_as(x)


def test_recurrent_layers() -> None:
    """A recurrent layer is linear at a tiny input too, and its biases count as 0."""
    found = {name: float(score.sum()) for name, score in scores(around(Recurrent())).items()}
    assert found == pytest.approx(dict.fromkeys(found, 1.0), rel=1e-12)


def test_exact_counts() -> None:
    """Masks are exact whatever the activation."""
    net = around(nn.Hardswish())
    mask = select(synflow(net, task(), 0.3, iterations=5), net, 0.3)
    total = sum(weight.numel() for weight in mask.values())
    assert sum(layer_counts(mask).values()) == round(0.3 * total)

"""The initializations."""

import math

import pytest
import torch
from torch import Tensor, nn

from paibench.models.core.init import SCHEMES, fresh, initialize

DRAWN = [scheme for scheme in SCHEMES if scheme != "native"]


class Mixed(nn.Module):
    """One layer of each kind that an initialization has to know, and one parameter it has not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 64, 3)
        self.grouped = nn.Conv2d(64, 256, 3, groups=4)
        self.linear = nn.Linear(300, 200)
        self.attention = nn.MultiheadAttention(64, 2)
        self.norms = nn.ModuleList(
            [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)]
        )
        self.plain = nn.BatchNorm2d(4, affine=False)
        self.position = nn.Parameter(torch.full((3,), 0.5))


# Inputs of one output unit and, as torch counts them, outputs of one input unit.
FANS = {
    "conv.weight": (16 * 9, 64 * 9),
    "grouped.weight": (16 * 9, 256 * 9),
    "linear.weight": (300, 200),
    "attention.in_proj_weight": (64, 192),
    "attention.out_proj.weight": (64, 64),
}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _initialized(scheme: str, seed: int = 0) -> nn.Module:
    net = Mixed()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    net.plain.running_mean.fill_(7)  # type: ignore[union-attr]
    initialize(net, scheme, _generator(seed))
    return net


def test_weights_are_the_prunable_ones() -> None:
    """An initialization draws exactly the weights that masks cover."""
    assert list(fresh(Mixed(), "kaiming_normal", _generator(0))) == list(FANS)


def test_separate_and_tied_projections() -> None:
    """Attention with other key sizes has three input projections; a tied weight appears once."""
    net = nn.ModuleList([nn.MultiheadAttention(4, 1, kdim=3), nn.Linear(4, 4)])
    net.append(net[1])
    names = ["0.q_proj_weight", "0.k_proj_weight", "0.v_proj_weight", "0.out_proj.weight"]
    assert list(fresh(net, "kaiming_normal", _generator(0))) == [*names, "1.weight"]


@pytest.mark.parametrize("name", FANS)
@pytest.mark.parametrize("scheme", DRAWN)
def test_moments(scheme: str, name: str) -> None:
    """Every weight has mean zero and the standard deviation of its scheme."""
    fan_in, fan_out = FANS[name]
    std = math.sqrt(2 / (fan_in + fan_out) if scheme == "xavier_normal" else 2 / fan_in)
    weight = _initialized(scheme).get_parameter(name)
    assert abs(weight.mean().item()) < 4 * std / math.sqrt(weight.numel())
    assert weight.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("name", FANS)
def test_signed_constants(name: str) -> None:
    """Signed constants have one magnitude, exactly, and fair signs."""
    weight = _initialized("signed_constant").get_parameter(name)
    magnitude = torch.tensor(math.sqrt(2 / FANS[name][0]))
    assert torch.equal(weight.abs(), magnitude.expand_as(weight))


@pytest.mark.parametrize("name", FANS)
def test_uniform_bound(name: str) -> None:
    """Kaiming's uniform weights fill the interval within sqrt(6 / fan_in)."""
    bound = math.sqrt(6 / FANS[name][0])
    largest = _initialized("kaiming_uniform").get_parameter(name).abs().max().item()
    assert 0.99 * bound < largest <= bound


@pytest.mark.parametrize("scheme", DRAWN)
def test_the_rest_of_the_network(scheme: str) -> None:
    """Biases become 0, norms are reset, and parameters of other kinds do not change."""
    net = _initialized(scheme)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter)), name
        elif name.startswith("norms"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
    assert torch.equal(net.get_buffer("plain.running_mean"), torch.zeros(4))
    assert torch.equal(net.get_parameter("position"), torch.full((3,), 0.5))


def test_native_changes_nothing() -> None:
    """The native initialization changes nothing and draws nothing."""
    net, generator = Mixed(), _generator()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    initialize(net, "native", generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(generator.get_state(), _generator().get_state())


def _equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[bool]:
    return [torch.equal(a[name], b[name]) for name in FANS]


@pytest.mark.parametrize("scheme", DRAWN)
def test_fresh_weights(scheme: str) -> None:
    """Fresh weights are what `initialize` would set, and the network stays as it is."""
    net = _initialized(scheme, seed=0)
    drawn = fresh(net, scheme, _generator(1))
    assert list(drawn) == list(FANS)
    assert all(_equal(drawn, dict(_initialized(scheme, seed=1).named_parameters())))
    assert all(_equal(_initialized(scheme).state_dict(), net.state_dict()))
    assert not any(_equal(drawn, net.state_dict()))


@pytest.mark.parametrize("scheme", DRAWN)
def test_only_the_generator(scheme: str) -> None:
    """The global random state is neither read nor moved, and the memory format does not matter."""
    torch.manual_seed(1)
    first = fresh(Mixed(), scheme, _generator())
    state = torch.get_rng_state()
    second = fresh(Mixed().to(memory_format=torch.channels_last), scheme, _generator())
    assert all(_equal(first, second))
    torch.manual_seed(1)
    Mixed()
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_scheme() -> None:
    """The message suggests the nearest schemes on one line."""
    expected = (
        "unknown init 'kaiming_norma'; did you mean kaiming_normal or kaiming_uniform "
        "or xavier_normal?"
    )
    for call in (initialize, fresh):
        with pytest.raises(ValueError) as error:
            call(Mixed(), "kaiming_norma", _generator())
        assert str(error.value) == expected


def test_native_weights_cannot_be_drawn_afresh() -> None:
    """Weights of the native initialization cannot be drawn again."""
    with pytest.raises(ValueError, match="^init 'native' is .* with another seed$"):
        fresh(Mixed(), "native", _generator())

"""Networks that cannot be pruned, or do not see their images, are refused in one line."""

from collections.abc import Callable

import pytest
import torch
from timm.layers.std_conv import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from paibench.methods.core.mask import keep_top, prunable
from paibench.methods.core.registry import UserError, get, names
from paibench.models.core.build import build
from paibench.models.core.check import (
    check,
    check_layers,
    computed_fault,
    unseen,
)
from paibench.models.core.macs import uses
from paibench.models.timm_adapter import timm_factory

SHAPE = (3, 8, 8)


def _small(first: nn.Module) -> nn.Module:
    """Return a network with the layer between two ordinary ones."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


class _Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def _parametrized() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    parametrize.register_parametrization(layer, "weight", _Halved())
    return layer


def _pruned_by_torch() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    prune.identity(layer, "weight")  # type: ignore[no-untyped-call]
    return layer


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: weight_norm(nn.Conv2d(4, 4, 3)), id="old weight norm"),
        pytest.param(lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), id="weight norm"),
        pytest.param(lambda: spectral_norm(nn.Conv2d(4, 4, 3)), id="old spectral norm"),
        pytest.param(
            lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), id="spectral norm"
        ),
        pytest.param(lambda: parametrizations.orthogonal(nn.Conv2d(4, 4, 1)), id="orthogonal"),
        pytest.param(_parametrized, id="own parametrization"),
        pytest.param(_pruned_by_torch, id="torch's pruning"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_that_are_no_parameters(make: Callable[[], nn.Module]) -> None:
    """A layer whose weight is computed from other parameters is refused by name and class."""
    with pytest.raises(UserError, match=r"^the weight of 1 \(\w*Conv2d\) is no parameter of the "):
        check_layers(_small(make()))


def test_projections_that_are_no_parameters() -> None:
    """The input projection of attention is held to the same rule."""
    attention = nn.MultiheadAttention(4, 2)
    prune.identity(attention, "in_proj_weight")  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match=r"^the weight of 0 \(MultiheadAttention\) is no parameter"):
        check_layers(nn.Sequential(attention))


class _Normalized(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight - self.weight.mean((1, 2, 3), keepdim=True))


class _Transformed(nn.Conv2d):
    """Uses a small kernel that is computed from a larger one."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, F.avg_pool2d(self.weight, 3))


class _Softmax(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.softmax(1))


@pytest.mark.parametrize("cls", [ScaledStdConv2d, StdConv2d, _Normalized, _Transformed])
@pytest.mark.parametrize("zero", [False, True])
def test_weights_that_are_computed(cls: Callable[..., nn.Module], zero: bool) -> None:
    """A layer that uses a function of its weight is refused, even if all its weights are 0."""
    layer = cls(4, 4, 3)
    if zero:
        nn.init.zeros_(layer.get_parameter("weight"))
    with pytest.raises(
        UserError, match=rf"^1 \({cls.__name__}\) computes the weights that it uses"
    ):
        check(_small(layer), SHAPE)


def test_linear_weights_that_are_computed() -> None:
    """The same holds for linear layers."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), _Softmax(4, 4), nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"^2 \(_Softmax\) computes the weights that it uses"):
        check(net, SHAPE)


class _Noisy(nn.Conv2d):
    """Disturbs its weights in train mode."""

    def forward(self, input: Tensor) -> Tensor:
        noise = torch.randn_like(self.weight) if self.training else 0
        return F.conv2d(input, self.weight + noise)


def test_weights_that_are_computed_in_training() -> None:
    """A function of the weights that is used in train mode only is found, and changes no state."""
    torch.manual_seed(3)
    net, state = _small(_Noisy(4, 4, 3)), torch.get_rng_state()
    with pytest.raises(UserError, match=r"^1 \(_Noisy\) computes the weights that it uses"):
        check(net, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)


class _Scaled(nn.Conv2d):
    """Scales its weights, which keeps zeros: equalized learning rates do so."""

    def forward(self, input: Tensor) -> Tensor:
        gain = self.weight.new_full((self.out_channels, 1, 1, 1), 0.5)
        return F.conv2d(input, torch.cat((self.weight * gain, self.weight[:0])).contiguous())


def test_functions_that_keep_zeros() -> None:
    """A layer that only scales, copies or moves its weights uses pruned ones as 0."""
    assert check(_small(_Scaled(4, 4, 3)), SHAPE) == []


def test_a_mask_that_does_not_hold_is_found() -> None:
    """The proof is about the mask of the run: it names the layer that uses pruned weights."""
    torch.manual_seed(0)
    net = _small(StdConv2d(4, 4, 3))
    weights = prunable(net)
    mask = keep_top({name: weight.abs() for name, weight in weights.items()}, 100)
    assert str(computed_fault(net, uses(net, mask, SHAPE))).startswith("1 (StdConv2d) computes")
    dense = {name: torch.ones_like(layer) for name, layer in mask.items()}
    assert computed_fault(net, uses(net, dense, SHAPE)) is None


# -- pixels ----------------------------------------------------------------------------------------


def _patches(patch: int, norm: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, patch, stride=patch),
        norm or nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@pytest.mark.parametrize(
    ("patch", "shape", "not_seen"),
    [
        pytest.param(4, (3, 8, 8), None, id="whole patches"),
        pytest.param(4, (3, 10, 8), "2 of 10 rows and 0 of 8 columns", id="a rest of rows"),
        pytest.param(5, (3, 8, 9), "3 of 8 rows and 4 of 9 columns", id="a rest on both sides"),
    ],
)
def test_pixels_beyond_the_last_patch(
    patch: int, shape: tuple[int, int, int], not_seen: str | None
) -> None:
    """Rows and columns that no patch covers are counted; whole patches see everything."""
    if not_seen is None:
        assert check(_patches(patch), shape) == []
        return
    with pytest.raises(
        UserError, match=f"^it would not see {not_seen} of the images; use images of"
    ):
        check(_patches(patch), shape)


@pytest.mark.parametrize(("side", "unseen_rows"), [(20, 1), (21, 1), (22, 2)])
def test_a_single_row(side: int, unseen_rows: int) -> None:
    """A twentieth of the rows or less is a remark for the record."""
    net = _patches(side - unseen_rows)
    if unseen_rows == 1:
        remark = f"the network does not see 1 of {side} rows and 1 of {side} columns of the images"
        assert check(net, (3, side, side)) == [remark]
    else:
        with pytest.raises(UserError, match="would not see 2 of 22 rows"):
            check(net, (3, side, side))


def test_pixels_between_the_windows() -> None:
    """A stride that exceeds its kernel skips every other row and column."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(UserError, match="would not see 4 of 8 rows and 4 of 8 columns"):
        check(net, (3, 8, 8))


def test_hidden_gradients_are_no_unseen_pixels() -> None:
    """Units that are never active, maxima, and scales of 0 hide gradients, but pixels are seen."""
    dead = nn.BatchNorm2d(4)
    nn.init.constant_(dead.bias, -1e3)
    assert check(_patches(4, dead), (3, 8, 8)) == []
    silent = nn.BatchNorm2d(4)
    nn.init.zeros_(silent.weight)
    assert check(_patches(4, silent), (3, 8, 8)) == []


@pytest.mark.parametrize("model", names("models"))
def test_own_models_see_their_images(model: str) -> None:
    """No model of the suite is refused, on the sizes of its data sets and at any width."""
    factory = get(model, "models")
    for shape in [(1, 8, 8), (1, 28, 28), (3, 32, 32)]:
        try:
            net = build(factory, shape, 9, options={"width": 0.02}, init="native", seed=1)
        except ValueError:  # images of 8x8 are too small for some
            continue
        assert unseen(net, shape) == (0, 0)


# -- share -----------------------------------------------------------------------------------------


def test_few_prunable_parameters() -> None:
    """A network is refused if most of its parameters are not prunable, unless asked for."""
    net = nn.Sequential(nn.Flatten(), nn.LayerNorm(192), nn.Linear(192, 1))
    message = r"^only 33.3% of its 577 parameters are prunable; the largest others are 1.weight "
    with pytest.raises(UserError, match=message):
        check(net, SHAPE)
    check(net, SHAPE, allow_unprunable=True)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        pytest.param(
            "test_nfnet", (3, 32, 32), r"stem.conv1 \(ScaledStdConv2d\) computes", id="nfnet"
        ),
        pytest.param("mixer_s16_224", (3, 28, 28), "12 of 28 rows and 12 of 28", id="mixer"),
        pytest.param("vit_tiny_patch16_224", (3, 40, 28), "8 of 40 rows and 12 of 28", id="vit"),
        pytest.param("convmixer_768_32", (3, 32, 32), "4 of 32 rows", id="convmixer"),
        pytest.param("tf_efficientnet_cc_b0_4e", (3, 32, 32), "only 10.8% of", id="experts"),
    ],
)
def test_networks_of_timm(name: str, shape: tuple[int, int, int], reason: str) -> None:
    """The checks find what networks of timm do, whatever they call it."""
    net = timm_factory(name)(shape, 10)
    with pytest.raises(UserError, match=reason):
        check(net, shape)

"""What the networks share."""

import pytest
import torch
from torch import nn

from paibench.models.core.layers import conv, norm, require, scaled, zero_biases


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        pytest.param(64, 1.0, 64, id="as it is"),
        pytest.param(64, 0.5, 32, id="half"),
        pytest.param(10, 1.26, 13, id="rounded"),
        pytest.param(16, 0.001, 1, id="at least one"),
    ],
)
def test_scaled(channels: int, width: float, expected: int) -> None:
    """A width multiplies a channel count, rounded, and leaves at least one."""
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("width", [0.0, -1.0, float("inf"), float("nan")])
def test_a_width_is_positive(width: float) -> None:
    """A width that is not a positive finite number is refused in one line."""
    with pytest.raises(ValueError, match="^width is .*: give a number above 0$"):
        scaled(64, width)


@pytest.mark.parametrize("shape", [(3, 15, 16), (3, 16, 15), (0, 16, 16)])
def test_too_small(shape: tuple[int, int, int]) -> None:
    """The message names the model, the shape and the smallest size, on one line."""
    size = "x".join(map(str, shape))
    with pytest.raises(ValueError) as error:
        require("vgg-16", shape, 16)
    expected = f"vgg-16 cannot take images of {size}: the smallest it can take is 1x16x16"
    assert str(error.value) == expected


@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolutions_keep_the_size(size: int) -> None:
    """At stride 1 an image keeps its size, at stride 2 it halves, rounded up; there is no bias."""
    image = torch.zeros(1, 2, 9, 8)
    assert conv(2, 5, size)(image).shape == (1, 5, 9, 8)
    assert conv(2, 5, size, stride=2)(image).shape == (1, 5, 5, 4)
    assert conv(2, 5, size).bias is None


def test_affine() -> None:
    """A norm has a scale and a shift only when it is affine, and running statistics always."""
    assert [name for name, _ in norm(4, affine=True).named_parameters()] == ["weight", "bias"]
    assert list(norm(4, affine=False).parameters()) == []
    assert norm(4, affine=False).running_mean is not None


def test_zero_biases() -> None:
    """Biases become zero; weights do not change."""
    net = nn.Linear(3, 2)
    weight = net.weight.clone()
    assert zero_biases(net) is net
    assert torch.equal(net.bias, torch.zeros(2))
    assert torch.equal(net.weight, weight)

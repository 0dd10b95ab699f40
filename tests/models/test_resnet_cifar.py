"""The ResNets made for CIFAR."""

from typing import Literal

import pytest
import torch
from torch import nn

from paibench.methods.core.mask import prunable
from paibench.models.resnet_cifar import resnet_20, resnet_32, resnet_44, resnet_56

FACTORIES = {20: resnet_20, 32: resnet_32, 44: resnet_44, 56: resnet_56}


def _sizes(net: nn.Module) -> dict[str, int]:
    return {name: w.numel() for name, w in prunable(net).items()}


def _formula(depth: int, shortcut: str) -> int:
    """The stem, 2n convolutions to a stage, the classifier, and two 1x1 shortcuts or none."""
    n = (depth - 2) // 6
    total = 9 * 3 * 16 + 64 * 10
    for before, channels in [(16, 16), (16, 32), (32, 64)]:
        total += 9 * before * channels + (2 * n - 1) * 9 * channels**2
    return total + (16 * 32 + 32 * 64 if shortcut == "conv" else 0)


@pytest.mark.parametrize("shortcut", ["pad", "conv"])
@pytest.mark.parametrize("depth", FACTORIES)
def test_counts(depth: int, shortcut: Literal["pad", "conv"]) -> None:
    """The prunable count follows from depth and kind of shortcut."""
    with torch.device("meta"):
        net = FACTORIES[depth]((3, 32, 32), 10, shortcut=shortcut)
    assert sum(_sizes(net).values()) == _formula(depth, shortcut)


@pytest.mark.parametrize(
    ("shortcut", "total", "layers"), [("pad", 268_336, 20), ("conv", 270_896, 22)]
)
def test_published_counts(shortcut: Literal["pad", "conv"], total: int, layers: int) -> None:
    """ResNet-20 has 268,336 weights in 20 layers without, 270,896 in 22 with 1x1 shortcuts."""
    sizes = _sizes(resnet_20((3, 32, 32), 10, shortcut=shortcut))
    assert (sum(sizes.values()), len(sizes)) == (total, layers)
    assert (sizes["conv1.weight"], sizes["fc.weight"]) == (432, 640)


def test_pad_takes_every_second_pixel() -> None:
    """With its convolutions at zero a stage hands on every second pixel between zero channels."""
    net = resnet_20((1, 8, 8), 10)
    stage = net.get_submodule("layer2")
    for weight in prunable(stage).values():
        nn.init.zeros_(weight)
    x = torch.rand(2, 16, 7, 8)
    expected = torch.zeros(2, 32, 4, 4)
    expected[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.equal(stage(x), expected)


@pytest.mark.parametrize("width", [0.07, 0.3, 1.9])
def test_odd_widths(width: float) -> None:
    """Padding works when the channels to add are odd or none."""
    net = resnet_20((1, 8, 8), 10, width=width)
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_unknown_shortcut() -> None:
    """An unknown shortcut is refused."""
    with pytest.raises(ValueError, match="^unknown shortcut 'Pad': take pad or conv$"):
        resnet_20((3, 32, 32), 10, shortcut="Pad")  # type: ignore[arg-type]

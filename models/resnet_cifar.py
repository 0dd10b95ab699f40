"""The ResNets made for CIFAR: three stages of 16, 32 and 64 channels (He et al. 2016).

`shortcut="pad"` is option A of the paper, without parameters: every second pixel, new channels
filled with zeros. `shortcut="conv"` is option B, a 1x1 convolution, as in open_lth and
Synaptic-Flow. The two have different prunable counts, so densities do not compare.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from paibench.models.core.layers import Shape, Width, conv, norm, require, scaled

Shortcut = Literal["pad", "conv"]


class _Pad(nn.Module):
    """Every `stride`-th pixel, with channels of zeros before and after those of the input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        # an odd number of new channels has one more behind than before
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        # F.pad starts from the last axis: width, height, channels
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def _shortcut(
    kind: Shortcut, in_channels: int, out_channels: int, stride: int, affine: bool
) -> nn.Module:
    # both options keep the identity if the shape stays the same
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return _Pad(in_channels, out_channels, stride)
    if kind == "conv":
        return nn.Sequential(conv(in_channels, out_channels, 1, stride), norm(out_channels, affine))
    raise ValueError(f"unknown shortcut {kind!r}: take pad or conv")


class _Block(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, stride: int, affine: bool, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, stride=stride)
        self.bn1 = norm(out_channels, affine)
        self.conv2 = conv(out_channels, out_channels)
        self.bn2 = norm(out_channels, affine)
        self.shortcut = _shortcut(shortcut, in_channels, out_channels, stride, affine)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(branch)) + self.shortcut(x))


class _ResNet(nn.Module):
    def __init__(
        self,
        depth: int,
        shape: Shape,
        classes: int,
        width: float,
        affine: bool,
        shortcut: Shortcut,
    ) -> None:
        super().__init__()
        # two strides turn four pixels into one
        require(f"resnet-{depth}", shape, smallest=4)
        # depth 6n + 2: the stem, three stages of n blocks with two convolutions, and the classifier
        repeats = (depth - 2) // 6
        first, second, third = (scaled(channels, width) for channels in (16, 32, 64))

        def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            blocks = [_Block(in_channels, out_channels, stride, affine, shortcut)]
            for _ in range(repeats - 1):
                blocks.append(_Block(out_channels, out_channels, 1, affine, shortcut))
            return nn.Sequential(*blocks)

        self.conv1 = conv(shape[0], first)
        self.bn1 = norm(first, affine)
        self.layer1 = stage(first, first, 1)
        self.layer2 = stage(first, second, 2)
        self.layer3 = stage(second, third, 2)
        self.fc = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def resnet_20(
    shape: Shape,
    classes: int,
    *,
    width: Width = 1.0,
    affine: bool = True,
    shortcut: Shortcut = "pad",
) -> nn.Module:
    """ResNet-20: three blocks to a stage."""
    return _ResNet(20, shape, classes, width, affine, shortcut)


def resnet_32(
    shape: Shape,
    classes: int,
    *,
    width: Width = 1.0,
    affine: bool = True,
    shortcut: Shortcut = "pad",
) -> nn.Module:
    """ResNet-32: five blocks to a stage."""
    return _ResNet(32, shape, classes, width, affine, shortcut)


def resnet_44(
    shape: Shape,
    classes: int,
    *,
    width: Width = 1.0,
    affine: bool = True,
    shortcut: Shortcut = "pad",
) -> nn.Module:
    """ResNet-44: seven blocks to a stage."""
    return _ResNet(44, shape, classes, width, affine, shortcut)


def resnet_56(
    shape: Shape,
    classes: int,
    *,
    width: Width = 1.0,
    affine: bool = True,
    shortcut: Shortcut = "pad",
) -> nn.Module:
    """ResNet-56: nine blocks to a stage."""
    return _ResNet(56, shape, classes, width, affine, shortcut)

"""What the networks share: channel counts, bias-free convolutions, norms and the size check."""

import math
from typing import Annotated

from torch import nn

Shape = tuple[int, int, int]
"""Channels, height and width of one image."""
Width = Annotated[float, "(0, inf)"]
"""The factor of all channel counts."""


def scaled(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded, and at least 1.

    Raises ValueError if `width` is not a positive finite number.
    """
    if not 0 < width < math.inf:
        raise ValueError(
            f"width is {width}, but it multiplies channel counts: give a number above 0"
        )
    return max(1, round(channels * width))


def require(model: str, shape: Shape, smallest: int) -> None:
    """Raise ValueError if an image of `shape` has fewer than `smallest` pixels on a side."""
    channels, height, width = shape
    if channels < 1 or min(height, width) < smallest:
        raise ValueError(
            f"{model} cannot take images of {channels}x{height}x{width}: "
            f"the smallest it can take is 1x{smallest}x{smallest}"
        )


def conv(
    in_channels: int, out_channels: int, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution that keeps the image size at stride 1; a norm follows, so no bias."""
    padding = size // 2
    return nn.Conv2d(in_channels, out_channels, size, stride, padding, groups=groups, bias=False)


def norm(channels: int, affine: bool) -> nn.BatchNorm2d:
    """Return a batch norm, with learnable scale and shift if `affine`."""
    return nn.BatchNorm2d(channels, affine=affine)


def zero_biases(net: nn.Module) -> nn.Module:
    """Return the same network with every bias set to zero."""
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return net

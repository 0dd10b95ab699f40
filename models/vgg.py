"""VGG with batch norm for small images (Simonyan and Zisserman 2015).

Five groups of 3x3 convolutions with a max pool between groups, then a global average and one
linear layer, as in open_lth and Synaptic-Flow.
"""

from collections import OrderedDict

from torch import nn

from paibench.models.core.layers import Shape, Width, conv, norm, require, scaled

_FILTERS = (64, 128, 256, 512, 512)
# configurations A, B, D and E of the paper (table 1): convolutions of each group
_CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def vgg_11(shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True) -> nn.Module:
    """VGG-11: 8 convolutions."""
    return _vgg(11, shape, classes, width, affine)


def vgg_13(shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True) -> nn.Module:
    """VGG-13: 10 convolutions."""
    return _vgg(13, shape, classes, width, affine)


def vgg_16(shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True) -> nn.Module:
    """VGG-16: 13 convolutions."""
    return _vgg(16, shape, classes, width, affine)


def vgg_19(shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True) -> nn.Module:
    """VGG-19: 16 convolutions."""
    return _vgg(19, shape, classes, width, affine)


def _vgg(depth: int, shape: Shape, classes: int, width: float, affine: bool) -> nn.Module:
    # four pools turn sixteen pixels into one
    require(f"vgg-{depth}", shape, smallest=16)
    in_channels = shape[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    index = 0
    for group, (filters, repeats) in enumerate(zip(_FILTERS, _CONVOLUTIONS[depth], strict=True)):
        if group:
            layers[f"pool{group}"] = nn.MaxPool2d(2)
        out_channels = scaled(filters, width)
        for _ in range(repeats):
            index += 1
            layers[f"conv{index}"] = conv(in_channels, out_channels)
            layers[f"bn{index}"] = norm(out_channels, affine)
            layers[f"relu{index}"] = nn.ReLU()
            in_channels = out_channels
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(in_channels, classes)
    return nn.Sequential(layers)

"""Conv-2, -4, -6 and -8: small VGGs without norms (Frankle and Carbin 2019; -8: Zhou et al. 2019).

Pairs of 3x3 convolutions with 64, 128, 256 and 512 filters, each pair pooled; then two hidden
layers of 256 units.
"""

from collections import OrderedDict

from torch import nn

from paibench.models.core.layers import Shape, Width, require, scaled, zero_biases

_FILTERS = (64, 128, 256, 512)


def conv_2(shape: Shape, classes: int, *, width: Width = 1.0) -> nn.Module:
    """Conv-2: one pair of convolutions."""
    return _conv(1, shape, classes, width)


def conv_4(shape: Shape, classes: int, *, width: Width = 1.0) -> nn.Module:
    """Conv-4: two pairs of convolutions."""
    return _conv(2, shape, classes, width)


def conv_6(shape: Shape, classes: int, *, width: Width = 1.0) -> nn.Module:
    """Conv-6: three pairs of convolutions."""
    return _conv(3, shape, classes, width)


def conv_8(shape: Shape, classes: int, *, width: Width = 1.0) -> nn.Module:
    """Conv-8: four pairs of convolutions."""
    return _conv(4, shape, classes, width)


def _conv(pairs: int, shape: Shape, classes: int, width: float) -> nn.Module:
    require(f"conv-{2 * pairs}", shape, smallest=2**pairs)
    in_channels, height, image_width = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(2 * pairs):
        out_channels = scaled(_FILTERS[index // 2], width)
        layers[f"conv{index + 1}"] = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        layers[f"relu{index + 1}"] = nn.ReLU()
        if index % 2:
            layers[f"pool{index // 2 + 1}"] = nn.MaxPool2d(2)
        in_channels = out_channels
    hidden = scaled(256, width)
    layers["flatten"] = nn.Flatten()
    # each pair ends with a pool that halves the sides
    layers["fc1"] = nn.Linear(in_channels * (height >> pairs) * (image_width >> pairs), hidden)
    layers["fc1_relu"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, hidden)
    layers["fc2_relu"] = nn.ReLU()
    layers["fc3"] = nn.Linear(hidden, classes)
    return zero_biases(nn.Sequential(layers))

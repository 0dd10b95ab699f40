"""The LeNets of the pruning literature, without norms and with zero biases."""

from collections import OrderedDict
from math import prod

from torch import nn

from paibench.models.core.layers import Shape, Width, require, scaled, zero_biases


def lenet_300_100(shape: Shape, classes: int, *, width: Width = 1.0) -> nn.Module:
    """LeNet-300-100: two hidden layers on the flattened image (LeCun et al. 1998)."""
    require("lenet-300-100", shape, smallest=1)
    first, second = scaled(300, width), scaled(100, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(),
        fc1=nn.Linear(prod(shape), first),
        relu1=nn.ReLU(),
        fc2=nn.Linear(first, second),
        relu2=nn.ReLU(),
        fc3=nn.Linear(second, classes),
    )
    return zero_biases(nn.Sequential(layers))


def lenet_5_caffe(shape: Shape, classes: int, *, width: Width = 1.0) -> nn.Module:
    """LeNet-5 as Caffe ships it: 20 and 50 filters of 5x5, then 500 units.

    As in Caffe and in SNIP (Lee et al. 2019), the only ReLU follows the 500 units.
    """
    require("lenet-5-caffe", shape, smallest=16)
    channels, height, image_width = shape
    first, second, hidden = scaled(20, width), scaled(50, width), scaled(500, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, first, 5),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, 5),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(second * _final_side(height) * _final_side(image_width), hidden),
        relu=nn.ReLU(),
        fc2=nn.Linear(hidden, classes),
    )
    return zero_biases(nn.Sequential(layers))


def _final_side(side: int) -> int:
    """Return the pixels on a side after two rounds of 5x5 convolution and pooling."""
    return ((side - 4) // 2 - 4) // 2

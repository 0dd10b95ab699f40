"""The LeNets."""

import torch

from paibench.methods.core.mask import prunable
from paibench.models.lenet import lenet_5_caffe, lenet_300_100

MNIST = (1, 28, 28)


def test_lenet_300_100_counts() -> None:
    """On MNIST there are 266,200 prunable weights."""
    sizes = {name: w.numel() for name, w in prunable(lenet_300_100(MNIST, 10)).items()}
    assert sizes == {"fc1.weight": 784 * 300, "fc2.weight": 300 * 100, "fc3.weight": 100 * 10}
    assert sum(sizes.values()) == 266_200


def test_lenet_5_caffe_counts() -> None:
    """On MNIST there are 430,500 prunable weights."""
    sizes = {name: w.numel() for name, w in prunable(lenet_5_caffe(MNIST, 10)).items()}
    assert sizes == {
        "conv1.weight": 20 * 25,
        "conv2.weight": 50 * 20 * 25,
        "fc1.weight": 50 * 4 * 4 * 500,
        "fc2.weight": 500 * 10,
    }
    assert sum(sizes.values()) == 430_500


def test_lenet_300_100_is_three_matrices() -> None:
    """The logits are those of three matrices with ReLU between; biases start at zero."""
    net, images = lenet_300_100((1, 8, 8), 10), torch.rand(4, 1, 8, 8)
    first, second, third = prunable(net).values()
    expected = (images.reshape(4, 64) @ first.T).relu()
    expected = (expected @ second.T).relu() @ third.T
    torch.testing.assert_close(net(images), expected)


def test_rectangular_images() -> None:
    """Height and width need not be equal."""
    assert lenet_5_caffe((3, 28, 40), 7)(torch.zeros(2, 3, 28, 40)).shape == (2, 7)

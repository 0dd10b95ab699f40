"""ResNet-18, -34 and -50, against torchvision's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.models as theirs
from torch import nn

from paibench.methods.core.mask import prunable
from paibench.models.resnet import resnet_18, resnet_34, resnet_50

PAIRS = [
    pytest.param(resnet_18, theirs.resnet18, id="resnet-18"),
    pytest.param(resnet_34, theirs.resnet34, id="resnet-34"),
    pytest.param(resnet_50, theirs.resnet50, id="resnet-50"),
]


def _count(net: nn.Module) -> int:
    return sum(w.numel() for w in prunable(net).values())


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_counts(ours: Callable[..., nn.Module], reference: Callable[..., Any]) -> None:
    """With the ImageNet stem every parameter is torchvision's; the CIFAR stem changes conv1."""
    with torch.device("meta"):
        large = ours((3, 224, 224), 1000, stem="imagenet")
        small = ours((3, 32, 32), 1000)
        expected = reference()
    shapes = {name: p.shape for name, p in expected.state_dict().items()}
    assert {name: p.shape for name, p in large.state_dict().items()} == shapes
    assert _count(small) == _count(large) - 64 * 3 * (49 - 9)


def test_published_count() -> None:
    """ResNet-18 for CIFAR-10 has 11,164,352 prunable weights."""
    with torch.device("meta"):
        assert _count(resnet_18((3, 32, 32), 10)) == 11_164_352


@pytest.mark.parametrize(
    ("ours", "reference"), [pytest.param(*p.values, id=p.id) for p in (PAIRS[0], PAIRS[2])]
)
def test_logits(ours: Callable[..., nn.Module], reference: Callable[..., Any]) -> None:
    """With torchvision's weights the logits are torchvision's."""
    expected = reference(num_classes=7).eval()
    net = ours((3, 64, 64), 7, stem="imagenet").eval()
    net.load_state_dict(expected.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(images), expected(images))


def test_cifar_stem_keeps_the_resolution() -> None:
    """The CIFAR stem neither strides nor pools: 32 pixels reach the last stage as 4."""
    net = resnet_18((3, 32, 32), 10, width=0.05)
    sizes: list[int] = []
    net.get_submodule("layer4").register_forward_hook(lambda *call: sizes.append(call[2].shape[-1]))
    net(torch.zeros(2, 3, 32, 32))
    assert sizes == [4]

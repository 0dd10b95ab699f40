"""VGG with batch norm."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from paibench.methods.core.mask import prunable
from paibench.models.vgg import vgg_11, vgg_13, vgg_16, vgg_19

_A = [64, 128, 256, 256, 512, 512, 512, 512]
_B = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]
_D = [64, 64, 128, 128, *[256] * 3, *[512] * 6]
_E = [64, 64, 128, 128, *[256] * 4, *[512] * 8]
PLANS = [
    pytest.param(vgg_11, _A, id="vgg-11"),
    pytest.param(vgg_13, _B, id="vgg-13"),
    pytest.param(vgg_16, _D, id="vgg-16"),
    pytest.param(vgg_19, _E, id="vgg-19"),
]


def _count(factory: Callable[..., nn.Module], shape: tuple[int, int, int], classes: int) -> int:
    with torch.device("meta"):
        net = factory(shape, classes)
    return sum(w.numel() for w in prunable(net).values())


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 64), (1, 28, 28)], ids=str)
@pytest.mark.parametrize(("factory", "plan"), PLANS)
def test_counts(
    factory: Callable[..., nn.Module], plan: list[int], shape: tuple[int, int, int]
) -> None:
    """A VGG has the convolutions of the paper's table and one linear layer, at any image size."""
    expected = sum(9 * a * b for a, b in zip([shape[0], *plan], plan, strict=False)) + 512 * 200
    assert _count(factory, shape, 200) == expected


def test_published_count() -> None:
    """VGG-16 on CIFAR-10 has 14,715,584 prunable weights."""
    assert _count(vgg_16, (3, 32, 32), 10) == 14_715_584


def test_four_pools() -> None:
    """There is a pool between groups and none behind the last: 32 pixels become 2, then one."""
    net = vgg_11((3, 32, 32), 10, width=0.1)
    features = nn.Sequential(*list(net.children())[:-3])
    assert features(torch.zeros(2, 3, 32, 32)).shape == (2, 51, 2, 2)

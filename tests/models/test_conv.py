"""Conv-2 to Conv-8."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from paibench.methods.core.mask import prunable
from paibench.models.conv import conv_2, conv_4, conv_6, conv_8

FACTORIES = {2: conv_2, 4: conv_4, 6: conv_6, 8: conv_8}


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        pytest.param(conv_2, 4_300_992, id="conv-2"),
        pytest.param(conv_4, 2_425_024, id="conv-4"),
        pytest.param(conv_6, 2_261_184, id="conv-6"),
    ],
)
def test_published_counts(factory: Callable[..., nn.Module], expected: int) -> None:
    """The prunable counts on CIFAR-10 are the 4.3, 2.4 and 2.3 million of the papers."""
    with torch.device("meta"):
        net = factory((3, 32, 32), 10)
    assert sum(w.numel() for w in prunable(net).values()) == expected


@pytest.mark.parametrize("side", [16, 28, 32, 64])
@pytest.mark.parametrize("depth", FACTORIES)
def test_counts_follow_the_size(depth: int, side: int) -> None:
    """The first hidden layer sees what the pools leave; everything else is fixed."""
    plan = [64, 64, 128, 128, 256, 256, 512, 512][:depth]
    expected = sum(9 * a * b for a, b in zip([3, *plan], plan, strict=False))
    expected += plan[-1] * (side // 2 ** (depth // 2)) ** 2 * 256 + 256 * 256 + 256 * 100
    with torch.device("meta"):
        net = FACTORIES[depth]((3, side, side), 100)
    assert sum(w.numel() for w in prunable(net).values()) == expected


def test_no_norms_and_zero_biases() -> None:
    """Every layer has a bias, which starts at zero, and nothing is normalized."""
    net = conv_4((1, 8, 8), 10, width=0.1)
    biases = {name for name, p in net.named_parameters() if name.endswith("bias") and not p.any()}
    assert biases == {name.replace("weight", "bias") for name in prunable(net)}
    assert list(net.buffers()) == []

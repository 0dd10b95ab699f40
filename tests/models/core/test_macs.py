"""Multiply-adds by layer."""

import torch
from torch import nn

from paibench.methods.core.mask import prunable
from paibench.models.core.macs import multiply_adds
from paibench.models.lenet import lenet_300_100
from paibench.models.resnet_cifar import resnet_20


def test_linear_layers() -> None:
    """A linear layer on one vector multiplies once per weight: 266,200 for LeNet-300-100."""
    net = lenet_300_100((1, 28, 28), 10)
    counts = multiply_adds(net, (1, 28, 28))
    assert counts == {name: weight.numel() for name, weight in prunable(net).items()}
    assert sum(counts.values()) == 266_200


def test_convolutions() -> None:
    """A convolution multiplies once per weight and output pixel, grouped, strided or transposed."""
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 2, 2, stride=2),
    )
    assert multiply_adds(net, (4, 9, 12)) == {
        "0.weight": 8 * 4 * 9 * (5 * 6),
        "1.weight": 8 * 9 * (3 * 4),
        "2.weight": 8 * 2 * 4 * (3 * 4),
    }


def test_resnet_20() -> None:
    """ResNet-20 on 32x32 has 40.55 million multiply-adds, the 41 M of the literature."""
    stages = [(32, 16, 16), (16, 16, 32), (8, 32, 64)]
    expected = 9 * 3 * 16 * 32**2 + 640
    for side, before, channels in stages:
        expected += side**2 * 9 * channels * (before + 5 * channels)
    assert sum(multiply_adds(resnet_20((3, 32, 32), 10), (3, 32, 32)).values()) == expected


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twice(self.twice(x))  # type: ignore[no-any-return]


def test_calls_add_up() -> None:
    """A layer counts as often as it is called, here on 5 rows twice, and not when it never is."""
    assert multiply_adds(_Shared(), (1, 5, 6)) == {"twice.weight": 360, "never.weight": 0}


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(1, 2)
        return self.attention(rows, rows, rows)[0]  # type: ignore[no-any-return]


def test_attention_counts_its_linear_layers() -> None:
    """Of self-attention over 10 tokens the two projections count: 3 + 1 squares of the width."""
    assert multiply_adds(_Attention(), (2, 5, 6)) == {
        "attention.in_proj_weight": 10 * 3 * 36,
        "attention.out_proj.weight": 10 * 36,
    }


def test_the_network_is_untouched() -> None:
    """Counting leaves mode, hooks, running statistics and gradients as they are."""
    net = resnet_20((1, 8, 8), 10, width=0.25)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    multiply_adds(net, (1, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(m.training and not m._forward_hooks for m in net.modules())

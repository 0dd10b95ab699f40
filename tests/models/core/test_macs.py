"""Multiply-adds by layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from paibench.methods.core.mask import prunable
from paibench.models.core.build import Option, build
from paibench.models.core.macs import multiply_adds, uses
from paibench.models.lenet import lenet_300_100
from paibench.models.resnet_cifar import resnet_20
from paibench.models.timm_adapter import timm_factory


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


class _Functional(nn.Module):
    """Joins two weights and calls the result as a function, as some attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Linear(6, 6, bias=False)
        self.keys_values = nn.Linear(6, 12, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.cat((self.queries.weight, self.keys_values.weight))
        rows = F.linear(x.flatten(1, 2), weight).chunk(3, -1)
        attended = F.scaled_dot_product_attention(rows[0], rows[1], rows[2])
        products = torch.einsum("btd,ed->bte", attended, self.queries.weight)
        return products.mean(1)


def test_functional_calls_count() -> None:
    """Joined weights count by their parts, products of activations do not count, einsum does."""
    assert multiply_adds(_Functional(), (2, 5, 6)) == {
        "queries.weight": 10 * 36 + 10 * 36,
        "keys_values.weight": 10 * 72,
    }


_SMALL: dict[str, Option] = {"depth": 1, "embed_dim": 24, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("beit_base_patch16_224", _SMALL),
        ("eva02_tiny_patch14_224", _SMALL | {"patch_size": 16}),
        ("swinv2_tiny_window8_256", {"depths": (1,), "embed_dim": 24, "num_heads": (2,)}),
        ("test_convnext", {}),
        ("test_resnet", {}),
        ("test_vit", {}),
    ],
)
def test_networks_of_timm(name: str, options: dict[str, Option]) -> None:
    """Weights and the products of attention are all that torch's own counter of flops counts."""
    shape = (3, 64, 64)
    net = build(timm_factory(name), shape, 10, options=options, init="native", seed=0).eval()
    counts = multiply_adds(net, shape)
    assert all(counts.values())
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        net(torch.zeros(1, *shape))
    of_attention = sum(
        count
        for operation, count in flops.get_flop_counts()["Global"].items()
        if "attention" in str(operation) or "bmm" in str(operation)
    )
    assert 2 * sum(counts.values()) == flops.get_total_flops() - of_attention


def test_sparse_multiply_adds() -> None:
    """Kept weights cost what their positions say, here 15 for one layer and 1 for the other."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2, bias=False)
    )
    mask = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in prunable(net).items()}
    mask["0.weight"][1, 0] = mask["0.weight"][2, 1] = mask["3.weight"][0, 3] = True
    used = uses(net, mask, (2, 3, 5))
    assert {name: use.sparse for name, use in used.items()} == {"0.weight": 30, "3.weight": 1}
    assert {name: use.dense for name, use in used.items()} == {"0.weight": 120, "3.weight": 8}


def test_fused_attention_is_taken_apart() -> None:
    """The encoder layer of torch counts all its projections, and its fast path stays on."""
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    net = nn.Sequential(nn.Flatten(1, 2), layer)
    assert multiply_adds(net, (2, 5, 6)) == {
        "1.self_attn.in_proj_weight": 10 * 108,
        "1.self_attn.out_proj.weight": 10 * 36,
        "1.linear1.weight": 10 * 48,
        "1.linear2.weight": 10 * 48,
    }
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_network_is_untouched() -> None:
    """Counting leaves mode, hooks, running statistics and gradients as they are."""
    net = resnet_20((1, 8, 8), 10, width=0.25)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    multiply_adds(net, (1, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(m.training and not m._forward_hooks for m in net.modules())

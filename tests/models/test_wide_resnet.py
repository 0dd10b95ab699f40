"""Wide residual networks."""

import pytest
import torch

from paibench.methods.core.mask import prunable
from paibench.models.wide_resnet import wide_resnet


@pytest.mark.parametrize(("depth", "k"), [(28, 2), (28, 10), (16, 8), (10, 1)])
def test_counts(depth: int, k: int) -> None:
    """A stem, three stages of (depth - 4) / 3 convolutions, 1x1 shortcuts where the size changes.

    At k = 1 the first stage keeps its channels and has no shortcut.
    """
    n = (depth - 4) // 6
    expected = 9 * 3 * 16 + 64 * k * 10
    for before, channels in [(16, 16 * k), (16 * k, 32 * k), (32 * k, 64 * k)]:
        expected += 9 * before * channels + (2 * n - 1) * 9 * channels**2
        expected += before * channels if before != channels else 0
    with torch.device("meta"):
        net = wide_resnet((3, 32, 32), 10, depth=depth, k=k)
    assert sum(w.numel() for w in prunable(net).values()) == expected


def test_known_size() -> None:
    """WRN-28-10 has the 36.5 million parameters of the paper."""
    with torch.device("meta"):
        net = wide_resnet((3, 32, 32), 10, depth=28, k=10)
    assert sum(p.numel() for p in net.parameters()) == 36_479_194


@pytest.mark.parametrize("depth", [27, 4, -2, 18])
def test_depth(depth: int) -> None:
    """A depth that is not 6n + 4 is refused in one line."""
    with pytest.raises(ValueError, match=f"^wide-resnet has no depth {depth}: take 6n"):
        wide_resnet((3, 32, 32), 10, depth=depth)


def test_k() -> None:
    """A k below 1 is refused in one line."""
    with pytest.raises(ValueError, match="^wide-resnet has no k 0: .* take 1 or more$"):
        wide_resnet((3, 32, 32), 10, k=0)

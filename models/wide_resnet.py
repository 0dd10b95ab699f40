"""Wide residual networks: norm and ReLU before each convolution (Zagoruyko and Komodakis 2016)."""

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from paibench.models.core.layers import Shape, Width, conv, norm, require, scaled


class _Block(nn.Module):
    """Two convolutions, each after a norm; if the size changes, the shortcut is a 1x1 one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.bn1 = norm(in_channels, affine)
        self.conv1 = conv(in_channels, out_channels, stride=stride)
        self.bn2 = norm(out_channels, affine)
        self.conv2 = conv(out_channels, out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        branch: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        # A 1x1 shortcut starts after the first norm, the identity before it.
        return branch + (x if self.shortcut is None else self.shortcut(active))


class _WideResNet(nn.Module):
    def __init__(
        self, depth: int, k: int, shape: Shape, classes: int, width: float, affine: bool
    ) -> None:
        super().__init__()
        require("wide-resnet", shape, smallest=4)
        # depth 6n + 4: the stem, three stages of n blocks with two convolutions, three shortcuts
        repeats = (depth - 4) // 6
        stem = scaled(16, width)
        first, second, third = (scaled(channels * k, width) for channels in (16, 32, 64))

        def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            blocks = [_Block(in_channels, out_channels, stride, affine)]
            blocks += [_Block(out_channels, out_channels, 1, affine) for _ in range(repeats - 1)]
            return nn.Sequential(*blocks)

        self.conv1 = conv(shape[0], stem)
        self.layer1 = stage(stem, first, 1)
        self.layer2 = stage(first, second, 2)
        self.layer3 = stage(second, third, 2)
        self.bn = norm(third, affine)
        self.fc = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        # blocks end with a convolution, so that the last norm comes here
        logits: Tensor = self.fc(F.relu(self.bn(x)).mean((2, 3)))
        return logits


def wide_resnet(
    shape: Shape,
    classes: int,
    *,
    depth: Annotated[int, "[10, inf)"] = 28,
    k: Annotated[int, "[1, inf)"] = 2,
    width: Width = 1.0,
    affine: bool = True,
) -> nn.Module:
    """WRN-`depth`-`k`, without dropout: `k` widens the stages, and `width` also the stem.

    Raises ValueError if `depth` is not 6n + 4 or `k` is below 1.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"wide-resnet has no depth {depth}: take 6n + 4, such as 10, 16, 22 or 28")
    if k < 1:
        raise ValueError(f"wide-resnet has no k {k}: it multiplies channel counts, take 1 or more")
    return _WideResNet(depth, k, shape, classes, width, affine)

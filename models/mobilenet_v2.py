"""MobileNet-V2: inverted residuals around depthwise convolutions (Sandler et al. 2018)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from paibench.models.core.layers import Shape, Width, conv, norm, require, scaled

# expansion, channels, blocks, stride of the first block (table 2 of the paper)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _Block(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project; add the input if shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int, affine: bool
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        # a factor of 1 needs no expansion, as in torchvision
        if expansion > 1:
            layers += [conv(in_channels, hidden, 1), norm(hidden, affine), nn.ReLU6()]
        layers += [conv(hidden, hidden, 3, stride, groups=hidden), norm(hidden, affine), nn.ReLU6()]
        # no activation after the projection: the bottleneck is linear (section 3.2 of the paper)
        layers += [conv(hidden, out_channels, 1), norm(out_channels, affine)]
        self.branch = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.residual else branch


class _MobileNetV2(nn.Module):
    def __init__(
        self, shape: Shape, classes: int, width: float, affine: bool, strides: tuple[int, int]
    ) -> None:
        super().__init__()
        in_channels = scaled(32, width)
        self.conv1 = conv(shape[0], in_channels, stride=strides[0])
        self.bn1 = norm(in_channels, affine)
        blocks: list[nn.Module] = []
        for stage, (expansion, channels, repeats, stride) in enumerate(_STAGES):
            out_channels = scaled(channels, width)
            for repeat in range(repeats):
                # stage 1 has the second of the strides that the CIFAR stem omits
                step = 1 if repeat else strides[1] if stage == 1 else stride
                blocks.append(_Block(in_channels, out_channels, expansion, step, affine))
                in_channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        last = scaled(1280, width)
        self.conv2 = conv(in_channels, last, 1)
        self.bn2 = norm(last, affine)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu6(self.bn1(self.conv1(x))))
        x = F.relu6(self.bn2(self.conv2(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def mobilenet_v2(
    shape: Shape,
    classes: int,
    *,
    width: Width = 1.0,
    affine: bool = True,
    stem: Literal["cifar", "imagenet"] = "cifar",
) -> nn.Module:
    """MobileNet-V2 without dropout; `stem="cifar"` omits the first two of the five strides.

    As in the paper, a block has an identity shortcut if its shape stays the same, and else none.
    """
    strides, smallest = {"cifar": ((1, 1), 8), "imagenet": ((2, 2), 32)}[stem]
    require("mobilenet-v2", shape, smallest)
    return _MobileNetV2(shape, classes, width, affine, strides)

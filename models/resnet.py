"""ResNet-18, -34 and -50: four stages of 64 to 512 channels (He et al. 2016).

Shortcuts that change the size are 1x1 convolutions; in bottlenecks the 3x3 convolution has the
stride. `stem="imagenet"` is the 7x7 convolution and max pool of the paper, `stem="cifar"` one 3x3
convolution at full resolution, as is usual for images of 32 or 64 pixels.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from paibench.models.core.layers import Shape, Width, conv, norm, require, scaled

Stem = Literal["cifar", "imagenet"]


def _downsample(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), norm(out_channels, affine))


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, stride=stride)
        self.bn1 = norm(channels, affine)
        self.conv2 = conv(channels, channels)
        self.bn2 = norm(channels, affine)
        self.downsample = _downsample(in_channels, channels, stride, affine)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(branch)) + self.downsample(x))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = conv(in_channels, channels, 1)
        self.bn1 = norm(channels, affine)
        # as in torchvision; the paper has this stride in the first 1x1 convolution
        self.conv2 = conv(channels, channels, stride=stride)
        self.bn2 = norm(channels, affine)
        self.conv3 = conv(channels, out_channels, 1)
        self.bn3 = norm(out_channels, affine)
        self.downsample = _downsample(in_channels, out_channels, stride, affine)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        return F.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


# blocks of each stage (table 1 of the paper)
_BLOCKS: dict[int, tuple[type[_Basic] | type[_Bottleneck], tuple[int, int, int, int]]] = {
    18: (_Basic, (2, 2, 2, 2)),
    34: (_Basic, (3, 4, 6, 3)),
    50: (_Bottleneck, (3, 4, 6, 3)),
}


class _ResNet(nn.Module):
    def __init__(
        self, depth: int, shape: Shape, classes: int, width: float, affine: bool, stem: Stem
    ) -> None:
        super().__init__()
        require(f"resnet-{depth}", shape, smallest={"cifar": 8, "imagenet": 32}[stem])
        block, repeats = _BLOCKS[depth]
        channels = [scaled(count, width) for count in (64, 128, 256, 512)]

        def stage(in_channels: int, index: int) -> nn.Sequential:
            out_channels = channels[index] * block.expansion
            # the first stage keeps the resolution of the stem
            blocks = [block(in_channels, channels[index], 2 if index else 1, affine)]
            for _ in range(repeats[index] - 1):
                blocks.append(block(out_channels, channels[index], 1, affine))
            return nn.Sequential(*blocks)

        large = stem == "imagenet"
        self.conv1 = conv(shape[0], channels[0], *((7, 2) if large else (3, 1)))
        self.bn1 = norm(channels[0], affine)
        # an identity, so that both stems share one forward pass
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.layer1 = stage(channels[0], 0)
        self.layer2 = stage(channels[0] * block.expansion, 1)
        self.layer3 = stage(channels[1] * block.expansion, 2)
        self.layer4 = stage(channels[2] * block.expansion, 3)
        self.fc = nn.Linear(channels[3] * block.expansion, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def resnet_18(
    shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True, stem: Stem = "cifar"
) -> nn.Module:
    """ResNet-18: two blocks to a stage."""
    return _ResNet(18, shape, classes, width, affine, stem)


def resnet_34(
    shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True, stem: Stem = "cifar"
) -> nn.Module:
    """ResNet-34: 3, 4, 6 and 3 blocks."""
    return _ResNet(34, shape, classes, width, affine, stem)


def resnet_50(
    shape: Shape, classes: int, *, width: Width = 1.0, affine: bool = True, stem: Stem = "cifar"
) -> nn.Module:
    """ResNet-50: 3, 4, 6 and 3 bottlenecks."""
    return _ResNet(50, shape, classes, width, affine, stem)

"""MobileNet-V2, against torchvision's."""

import torch
import torchvision.models as theirs

from paibench.methods.core.mask import prunable
from paibench.models.mobilenet_v2 import mobilenet_v2


def test_logits() -> None:
    """With torchvision's weights and the ImageNet stem the logits are torchvision's."""
    expected = theirs.mobilenet_v2(num_classes=7).eval()
    net = mobilenet_v2((3, 64, 64), 7, stem="imagenet").eval()
    state = zip(net.state_dict(), expected.state_dict().values(), strict=True)
    net.load_state_dict(dict(state))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(images), expected(images))


def test_count() -> None:
    """The prunable count on CIFAR-10 follows from the table of the paper."""
    expected, inside = 9 * 3 * 32 + 320 * 1280 + 1280 * 10, 32
    table = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for expansion, channels, blocks in table:
        for _ in range(blocks):
            hidden = expansion * inside
            expected += (inside * hidden if expansion > 1 else 0) + 9 * hidden + hidden * channels
            inside = channels
    with torch.device("meta"):
        net = mobilenet_v2((3, 32, 32), 10)
    assert sum(w.numel() for w in prunable(net).values()) == expected == 2_202_560


def test_strides() -> None:
    """The last feature map has an eighth of the pixels on a side, with the ImageNet stem 1/32."""
    sizes: list[int] = []
    for stem in ("cifar", "imagenet"):
        net = mobilenet_v2((3, 32, 32), 10, width=0.1, stem=stem)
        net.get_submodule("conv2").register_forward_hook(
            lambda *call: sizes.append(call[2].shape[-1])
        )
        net.eval()(torch.zeros(1, 3, 32, 32))
    assert sizes == [4, 1]

"""What published figures call methods, models and data sets, and what we call them."""

import re
from collections.abc import Mapping

from paibench.benchmark.spec import Named
from paibench.leaderboard.frame.load import label
from paibench.methods.core.signature import Value

DATASETS = {
    "MNIST": "mnist",
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "TinyImageNet": "tiny_imagenet",
    "ImageNet": "imagenet",
}

# Only networks that are ours at some option. What is called WideResNet-18 is a plain ResNet-18 in
# its code, and stays under its own name so that it is never drawn beside either.
MODELS = {
    **{f"Conv-{depth}": f"conv-{depth}" for depth in (2, 4, 6, 8)},
    "LeNet-300-100": "lenet-300-100",
    "FC (LeNet-300-100 type)": "lenet-300-100",
    "LeNet-5-Caffe": "lenet-5-caffe",
    "MobileNet-V2": "mobilenet-v2",
    **{f"ResNet-{depth}": f"resnet-{depth}" for depth in (18, 20, 34, 50, 56)},
    "ResNet-20 (3x3 conv shortcuts)": "resnet-20",
    "ResNet-32 (2x width)": "resnet-32(width=2.0)",
    "ResNet-50 (CIFAR)": "resnet-50",
    "VGG-11-BN": "vgg-11",
    "VGG-16": "vgg-16",
    "VGG-16 (no fc)": "vgg-16",
    "VGG-16-BN": "vgg-16",
    "VGG-19": "vgg-19",
    **{
        f"WRN-{depth}-{k}": f"wide-resnet(depth={depth}, k={k})"
        for depth, k in ((16, 10), (16, 8), (22, 2), (22, 8))
    },
}

# In what a network differs from ours of that name, where its own name says so.
NOTES = {
    "FC (LeNet-300-100 type)": "a network like LeNet-300-100",
    "ResNet-20 (3x3 conv shortcuts)": "shortcuts are 3x3 convolutions",
}

_METHODS: dict[str, tuple[str, dict[str, Value]]] = {
    **{
        name: (name, {})
        for name in ("dense", "snip", "synflow", "grasp", "edge_popup", "gem_miner")
    },
    "random_global": ("random", {}),
    "random_static_ERK": ("random", {"layers": "erk"}),
    "magnitude_init": ("magnitude", {}),
    "grasp_abs_variant": ("grasp", {"score": "abs"}),
    "edge_popup_global": ("edge_popup", {"layers": "global"}),
    "zhou_supermask": ("zhou", {}),
    "lottery_ticket": ("imp", {}),
    "imp_rewind_init": ("imp", {}),
    "imp_finetune": ("imp", {"after": "finetune"}),
    "imp_lr_rewind": ("imp", {"after": "lr_rewind"}),
    "oneshot_mag_rewind_init": ("imp", {"rounds": 1}),
    "oneshot_mag_reinit": ("imp", {"rounds": 1}),
    "oneshot_mag_finetune": ("imp", {"after": "finetune", "rounds": 1}),
    "oneshot_mag_lr_rewind": ("imp", {"after": "lr_rewind", "rounds": 1}),
}
_LATE: Mapping[str, dict[str, Value]] = {
    "imp_late_rewind": {},
    "oneshot_mag_late_rewind": {"rounds": 1},
}


def method_of(name: str, setting: str) -> tuple[str, str]:
    """Our method and its label for a published name; a name that we do not have stays as it is.

    A rewind to a later epoch is ours only where the setting says to which.
    """
    if name in _LATE and (found := re.search(r"rewind to epoch (\d+)", setting)):
        options = _LATE[name] | {"rewind_epoch": float(found[1])}
        return "imp", label(Named(name="imp", options=options))
    if name not in _METHODS:
        return name, name
    own, options = _METHODS[name]
    return own, label(Named(name=own, options=options))

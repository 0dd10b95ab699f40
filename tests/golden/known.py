"""Makes the pinned facts of submissions again: `python tests/golden/known.py`, from the top.

leaderboard/submission/checks/known.json has the sha256 of our own data sets, and of the initial
weights of our own models for seeds 0 to 9. `PAIBENCH_DATA` is the folder that has the data sets.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from paibench.benchmark.data.dataset import load
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.network import make_network
from paibench.leaderboard.submission.checks import known
from paibench.methods.training.checkpoint import digest

SEEDS = range(10)
DATA = ("digits", "mnist", "fashion_mnist")
MODELS = {
    "digits": ("lenet-300-100",),
    "mnist": ("lenet-300-100", "lenet-5-caffe", "conv-2"),
    "cifar10": (
        *("conv-2", "conv-4", "conv-6", "conv-8", "resnet-20", "resnet-32", "resnet-56"),
        *("vgg-11", "vgg-13", "vgg-16", "vgg-19", "resnet-18", "wide-resnet", "mobilenet-v2"),
    ),
    "cifar100": ("resnet-20", "vgg-16", "resnet-18"),
    "tiny_imagenet": ("resnet-18",),
    "imagenet": ("resnet-50",),
}
"""The models by the first of the data sets that have inputs of one shape."""


@dataclass(frozen=True)
class Inputs:
    """What a network depends on."""

    shape: tuple[int, int, int]
    classes: int


def fingerprints(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each data set that can be read here, with its sha256."""
    for name in DATA:
        data = load(name, {}, folder, device=torch.device("cpu"), seed=0)
        yield name, data.fingerprint


def initial(model: str, dataset: str) -> list[str]:
    """Return the sha256 of the weights of a model at initialization, for each of `SEEDS`."""
    spec = Spec.of(dataset=dataset, model=model, recipe="lite", method="dense", density=1.0, seed=0)
    inputs = Inputs(*known.INPUTS[dataset])
    return [digest(make_network(spec, inputs, seed).state_dict()) for seed in SEEDS]


def text() -> str:
    """Return the file."""
    facts = {
        "data": dict(fingerprints(Path(os.environ["PAIBENCH_DATA"]))),
        "initial": {
            known.network(model, dataset): initial(model, dataset)
            for dataset, models in MODELS.items()
            for model in models
        },
    }
    return json.dumps(facts, indent=1) + "\n"


if __name__ == "__main__":
    known.FILE.write_text(text())

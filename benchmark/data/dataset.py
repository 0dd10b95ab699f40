"""A data set: a training split, the split that is evaluated, and what they are known by."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from paibench.benchmark.data.constants import Moments
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError, get
from paibench.methods.core.signature import Value
from paibench.methods.training.data import Split


class DataSplit(Split, Protocol):
    """A split that can be moved to a device and cut down to some of its images."""

    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    def to(self, device: torch.device | str) -> Self: ...
    def subset(self, indices: Tensor) -> Self: ...


@dataclass(frozen=True)
class DataSet:
    """What a run trains on and is evaluated on.

    `name` says everything that makes figures on it incomparable with figures on another: a set
    cut to 1,000 examples is `mnist-1000`. `test` is what is evaluated: the test set, or images
    held out of training where `evaluation` says "validation", and then the test set is not here
    at all. `fingerprint` is the sha256 of all pixels and labels of the whole set, before any
    cut. The splits share no memory, so whoever is given `train` cannot come by the rest.
    """

    name: str
    train: DataSplit
    test: DataSplit
    fingerprint: str
    evaluation: Literal["test", "validation"] = "test"

    @property
    def classes(self) -> int:
        """How many classes the labels have."""
        return self.train.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self.train.shape

    @property
    def mean(self) -> tuple[float, ...]:
        """What is taken from each channel of pixels scaled to [0, 1]."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """What each channel is divided by after that."""
        return self.train.std

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data set on another device."""
        train, test = self.train.to(device), self.test.to(device)
        return DataSet(self.name, train, test, self.fingerprint, self.evaluation)

    def subset(self, *, examples: int | None, validation: float, seed: int) -> "DataSet":
        """The same data set with fewer examples, or with a part of training held out.

        `examples` keeps the first so many training images of one class-balanced permutation,
        the same for every seed; a larger cut holds all of a smaller one. `validation` holds out
        that fraction of what is left, class-balanced, drawn by `seed`: it takes the place of
        the test set. Raises UserError when either is out of range.
        """
        name, train = self.name, self.train
        if examples is not None:
            if not train.classes <= examples <= len(train):
                raise UserError(
                    f"{name}: examples = {examples} is out of range; it has {len(train)} training "
                    f"examples of {train.classes} classes"
                )
            fixed = balanced(train.labels, generator(0, "examples"))
            train = train.subset(fixed[:examples].sort().values)
            name = f"{name}-{examples}"
        if validation == 0:
            return DataSet(name, train, self.test, self.fingerprint, self.evaluation)
        held = round(validation * len(train)) if 0 < validation < 1 else 0
        if not train.classes <= held <= len(train) - train.classes:
            raise UserError(
                f"{name}: validation = {validation!r} is out of range; it is the fraction of the "
                f"{len(train)} training examples to hold out, at least one of each class"
            )
        drawn = balanced(train.labels, generator(seed, "validation"))
        kept, away = drawn[held:].sort().values, drawn[:held].sort().values
        name = f"{name}-validation-{validation:g}"
        parts = train.subset(kept), train.subset(away)
        return DataSet(name, *parts, self.fingerprint, evaluation="validation")


class Maker(Protocol):
    """A function behind a data set's name; its options are keyword-only with plain defaults."""

    def __call__(self, root: Path | None, seed: int, **options: Value) -> DataSet: ...


def load(
    name: str,
    options: Mapping[str, Value],
    root: Path | None,
    device: torch.device | str,
    seed: int,
) -> DataSet:
    """The data set of that name, as a whole on the device (ImageNet is streamed to it).

    `root` is the data folder, None where the user gave none; `seed` decides nothing but what
    the option `validation` holds out. Nothing is ever downloaded. Raises UserError where the
    set is missing, damaged, or not what its name says.
    """
    make: Maker = get(name, "datasets")
    return make(root, seed, **options).to(device)


def balanced(labels: Tensor, draw: torch.Generator) -> Tensor:
    """A permutation [n] in which every beginning has the classes in their proportions.

    `labels` is [n]; every class has its first member before any has its second where the
    classes are equally large.
    """
    labels = labels.cpu()
    shuffled = torch.randperm(len(labels), generator=draw)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    sizes = labels.bincount()
    ranks = torch.cat([torch.arange(int(size)) for size in sizes])
    places = (ranks + 0.5) / sizes.repeat_interleave(sizes)
    return by_class[places.argsort(stable=True)]


def moments(pixels: Tensor) -> Moments:
    """The mean and standard deviation of each channel of `pixels` [n, c, h, w] (uint8), in [0, 1].

    They are taken from counts of the 256 values, so that no order of summing can change a bit.
    """
    values = [value / 255 for value in range(256)]
    means, stds = [], []
    for channel in pixels.unbind(1):
        counts = channel.flatten().bincount(minlength=256).tolist()
        total = sum(counts)
        mean = math.fsum(c * v for c, v in zip(counts, values, strict=True)) / total
        square = math.fsum(c * (v - mean) ** 2 for c, v in zip(counts, values, strict=True))
        means.append(mean)
        stds.append(math.sqrt(square / total))
    return tuple(means), tuple(stds)


def fingerprint(*tensors: Tensor) -> str:
    """The sha256 of the types, shapes and values of tensors on the CPU, in that order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()

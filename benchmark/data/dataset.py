"""A data set: the split to train on, the split to evaluate on, and a fingerprint of both."""

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self, get_args

import torch
from torch import Tensor

from paibench.benchmark.data.constants import Moments
from paibench.benchmark.data.files import label_fault
from paibench.benchmark.steps.blame import fault
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError, get
from paibench.methods.core.signature import Value
from paibench.methods.training.data import Images, Split

Evaluation = Literal["test", "validation"]

Examples = Annotated[int | None, "[1, inf)"]
"""The number of training images to use; None for all of them."""
Validation = Annotated[float, "[0, 1)"]
"""The fraction of the training images to hold out."""


class DataSplit(Split, Protocol):
    """A split that can be moved to a device and reduced to some of its images."""

    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    def to(self, device: torch.device | str) -> Self: ...
    def subset(self, indices: Tensor) -> Self: ...


@dataclass(frozen=True)
class DataSet:
    """The data that a run trains on and is evaluated on.

    Results on data sets of different `name` are not comparable: a subset of 1,000 examples is
    `mnist-1000`. `test` is the test set, or images held out of training if `evaluation` is
    "validation"; then the test set is not loaded. `fingerprint` is the sha256 of all pixels and
    labels of the whole set. The splits share no memory, so code that gets `train` cannot reach
    the other one. `class_names`, if any, are used in messages.
    """

    name: str
    train: DataSplit
    test: DataSplit
    fingerprint: str
    evaluation: Evaluation = "test"
    class_names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.train.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self.train.shape

    @property
    def mean(self) -> tuple[float, ...]:
        """The value subtracted from each channel of pixels scaled to [0, 1]."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The value by which each channel is then divided."""
        return self.train.std

    def to(self, device: torch.device | str) -> "DataSet":
        """Return the data set on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def subset(self, *, examples: int | None, validation: float, seed: int) -> "DataSet":
        """Return the data set with fewer training examples, or with some held out.

        `examples` keeps the first images of a class-balanced permutation that is the same for
        every seed, so a larger subset contains every smaller one. `validation` then holds out
        that fraction, class-balanced and drawn by `seed`, which replaces the test set. Every class
        has an image on every side. Raises UserError if that is impossible.
        """
        name, train = self.name, self.train
        if examples is not None:
            if not train.classes <= examples <= len(train):
                raise UserError(
                    f"{name}: examples = {examples} is out of range; it has {len(train)} training "
                    f"examples of {train.classes} classes"
                )
            # a fixed seed, so that runs of different seeds train on the same images
            fixed = balanced(train.labels, generator(0, "examples"))
            train = train.subset(fixed[:examples].sort().values)
            name = f"{name}-{examples}"
        if validation == 0:
            return replace(self, name=name, train=train)
        # a fraction outside (0, 1), or NaN, holds out no image, so that the check below refuses it
        held_out_count = round(validation * len(train)) if 0 < validation < 1 else 0
        if not train.classes <= held_out_count <= len(train) - train.classes:
            raise UserError(
                f"{name}: validation = {validation!r} is out of range; it is the fraction of the "
                f"{len(train)} training examples to hold out, at least one of each class"
            )
        fewest, label = train.labels.bincount(minlength=train.classes).min(0)
        if fewest < 2:
            which = self.class_names[label] if self.class_names else int(label)
            raise UserError(
                f"{name}: class {which!r:.80} has {int(fewest)} training image, and validation "
                "needs two of each class: one to train on and one to hold out"
            )
        permutation = balanced(train.labels, generator(seed, "validation"))
        held_out, kept = permutation[:held_out_count], permutation[held_out_count:]
        return replace(
            self,
            name=f"{name}-validation-{validation:g}",
            train=train.subset(kept.sort().values),
            test=train.subset(held_out.sort().values),
            evaluation="validation",
        )

    def normalised(self) -> "DataSet":
        """Return the data set with the mean and deviation of the images that it trains on.

        Call it after `subset`: training must not depend on images that are held out or left out.
        """
        assert isinstance(self.train, Images) and isinstance(self.test, Images)
        mean, std = moments(self.train.pixels)
        train, test = (replace(each, mean=mean, std=std) for each in (self.train, self.test))
        return replace(self, train=train, test=test)


class Loader(Protocol):
    """The function that loads a named data set; options are keyword-only with plain defaults."""

    def __call__(self, root: Path | None, seed: int, **options: Value) -> DataSet: ...


def load(
    name: str,
    options: Mapping[str, Value],
    root: Path | None,
    device: torch.device | str,
    seed: int,
) -> DataSet:
    """Return the data set of that name, entirely on the device (ImageNet is streamed).

    `root` is the data folder, None if the user gave none. `seed` affects only what the option
    `validation` holds out. Nothing is downloaded. Raises UserError if the set is missing, damaged
    or not the one of that name.
    """
    make: Loader = get(name, "datasets")
    return check_dataset(name, make(root, seed, **options)).to(device)


def check_dataset(name: str, made: object) -> DataSet:
    """Return what the loader of the data set `name` made, if a run can use it.

    Raises UserError, or PluginError for a third party's, in one line that names the data set, the
    split and what is wrong. Every loaded set is checked, our own too, so that no later step fails
    on its data.
    """
    try:
        if not isinstance(made, DataSet):
            raise _Unfit(f"its loader returns {type(made).__name__}, not a DataSet")
        _check_texts(made)
        splits = {"train": made.train, "test": made.test}
        for side, split in splits.items():
            _check_split(side, split)
        for field in ("classes", "shape", "mean", "std"):
            first, second = (getattr(split, field) for split in splits.values())
            if first != second:
                raise _Unfit(f"{field} is {first} in train and {second} in test")
    except _Unfit as error:
        own_name = getattr(made, "name", name)
        named = isinstance(own_name, str) and is_data_name(own_name) and own_name != name
        which = f"{own_name:.80}: " if named else ""
        raise fault("datasets", name, f"{which}{error}") from error
    return made


class _Unfit(ValueError):
    """A run cannot use a data set; the text says why."""


def _check_texts(data: DataSet) -> None:
    name = data.name
    if not isinstance(name, str) or not is_data_name(name):
        raise _Unfit(f"the name {name!r:.80} cannot be used; {DATA_NAME}")
    if not re.fullmatch("[0-9a-f]{64}", str(data.fingerprint)):
        raise _Unfit(f"the fingerprint {data.fingerprint!r:.80} is not a sha256 in hexadecimal")
    if data.evaluation not in get_args(Evaluation):
        raise _Unfit(f"evaluation is {data.evaluation!r:.80}, not 'test' or 'validation'")


DATA_NAME = "use printable characters, at most 300, without a slash or a space at an end"


def is_data_name(name: str) -> bool:
    """Return whether a text can name a data set: what `DATA_NAME` says, in the form NFC."""
    return (
        0 < len(name) <= 300
        and name.isprintable()
        and name == unicodedata.normalize("NFC", name.strip())
        and "/" not in name
        and name not in (".", "..")
    )


def _check_split(side: str, split: DataSplit) -> None:
    if not isinstance(split, Images):
        for attribute in ("classes", "mean", "std", "labels", "shape", "batches", "subset", "to"):
            if not hasattr(split, attribute):
                raise _Unfit(f"{side} is {_kind(split)} without {attribute}; return Images")
    labels, classes = split.labels, split.classes
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.dim() != 1:
        raise _Unfit(f"the labels of {side} are {_kind(labels)}, not int64 [n]")
    if not len(labels):
        raise _Unfit(f"{side} has no images")
    if len(split) != len(labels):
        raise _Unfit(f"{side} has {len(split)} images and {len(labels)} labels")
    if type(classes) is not int or classes < 2:
        raise _Unfit(f"{side} has classes = {classes!r:.40}; a network needs 2 or more")
    if reason := label_fault(side, labels, classes):
        raise _Unfit(reason)
    if isinstance(split, Images):
        _check_pixels(side, split.pixels, len(labels))
    shape = split.shape
    if len(shape) != 3 or not all(type(length) is int and length > 0 for length in shape):
        raise _Unfit(f"the shape of {side} is {shape}, not channels, height and width")
    _check_moments(side, split)
    if not isinstance(split, Images):
        inputs, _ = next(split.batches(torch.arange(1), 1))
        if inputs.shape != (1, *shape) or inputs.dtype != torch.get_default_dtype():
            raise _Unfit(f"a batch of {side} is {_kind(inputs)}, not float32 {[1, *shape]}")


def _check_moments(side: str, split: DataSplit) -> None:
    for field, lowest in (("mean", -math.inf), ("std", 0.0)):
        numbers = getattr(split, field)
        if not isinstance(numbers, tuple | list) or len(numbers) != split.shape[0]:
            raise _Unfit(f"{field} of {side} is {numbers!r:.80}, not a number for each channel")
        for channel, number in enumerate(numbers):
            if not (isinstance(number, int | float) and lowest < number < math.inf):
                remedy = "; give 1.0 for a constant channel" if number == 0 else ""
                raise _Unfit(f"{field} of channel {channel} in {side} is {number!r:.40}{remedy}")


def _check_pixels(side: str, pixels: Tensor, count: int) -> None:
    if not isinstance(pixels, Tensor) or pixels.dim() != 4 or 0 in pixels.shape:
        raise _Unfit(f"the pixels of {side} are {_kind(pixels)}, not [n, c, h, w]")
    if pixels.dtype not in (torch.uint8, torch.get_default_dtype()):
        raise _Unfit(f"the pixels of {side} are {_kind(pixels)}, not uint8 or float32")
    if len(pixels) != count:
        raise _Unfit(f"{side} has {len(pixels)} images and {count} labels")
    if pixels.is_floating_point() and not bool(pixels.isfinite().all()):
        raise _Unfit(f"the pixels of {side} are not all finite")
    flat = pixels[:1, :, :1, :1]
    # most sets are told by their first image, without a pass over all
    if side == "train" and bool((pixels[:1] == flat).all()) and bool((pixels == flat).all()):
        raise _Unfit("all training images have one and the same colour, so nothing can be learned")


def _kind(value: object) -> str:
    """Return a tensor's type and shape for a message, or the type of anything else."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__}"


def balanced(labels: Tensor, draw: torch.Generator) -> Tensor:
    """Return a permutation [n] of which every prefix has the classes in their proportions.

    `labels` is [n]. Every class has its first member before any class has its second, and, if it
    has two or more, its last after any other class has its last but one: however rare a class is,
    a cut leaves it on both sides if both are as long as the list of classes.
    """
    # the draw is made on the CPU, because a GPU would draw another permutation
    labels = labels.cpu()
    shuffled = torch.randperm(len(labels), generator=draw)
    # the sorts are stable, because equal keys must come in the same order on every machine
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    ranks = torch.cat([torch.arange(int(count)) for count in counts])
    sizes = counts.repeat_interleave(counts)
    # each class is spread evenly over [0, 1], so that any prefix has all classes in proportion
    order = ((ranks + 0.5) / sizes).argsort(stable=True)
    parts = torch.where(ranks == 0, 0, torch.where(ranks == sizes - 1, 2, 1))
    return by_class[order[parts[order].argsort(stable=True)]]


def moments(pixels: Tensor) -> Moments:
    """Return the mean and standard deviation of each channel of `pixels` [n, c, h, w] (uint8).

    Pixels are scaled to [0, 1]. A constant channel has the standard deviation 1, because pixels
    are divided by it. The sums run over the counts of the 256 values, so that the result is the
    same bit for bit on every machine.
    """
    values = [value / 255 for value in range(256)]
    means, stds = [], []
    for channel in pixels.unbind(1):
        counts = channel.flatten().bincount(minlength=256).tolist()
        total = sum(counts)
        # fsum rounds once, whatever the order of the terms
        mean = math.fsum(c * v for c, v in zip(counts, values, strict=True)) / total
        square = math.fsum(c * (v - mean) ** 2 for c, v in zip(counts, values, strict=True))
        means.append(mean)
        # asked of the counts, because the rounded sum of equal terms need not be exactly 0
        stds.append(1.0 if max(counts) == total else math.sqrt(square / total))
    return tuple(means), tuple(stds)


def fingerprint(*tensors: Tensor) -> str:
    """Return the sha256 of the types, shapes and values of tensors on the CPU."""
    digest = hashlib.sha256()
    for tensor in tensors:
        # other tensors may consist of the same bytes, so type and shape are hashed too
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # the memory itself is hashed, because tobytes() would copy a whole data set
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()

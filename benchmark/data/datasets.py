"""The named data sets: functions from the data folder to a `DataSet`.

Every set has two options besides its own. `examples` trains on a fixed class-balanced subset of
that many images. `validation` holds out that fraction of the training images, drawn by the run's
seed, and evaluates on it instead of the test set; use it to choose hyper-parameters.
"""

import gzip
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from paibench.benchmark.data import files, image_folder
from paibench.benchmark.data.constants import COUNTS, MNIST_SHA256, MOMENTS, Moments
from paibench.benchmark.data.dataset import (
    DATA_NAME,
    DataSet,
    Examples,
    Validation,
    balanced,
    fingerprint,
    is_data_name,
)
from paibench.benchmark.data.files import Pair, check_count, locate
from paibench.benchmark.data.image_cache import cache_folders, decoded
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError, names
from paibench.methods.core.text import printable
from paibench.methods.training.data import Images


def digits(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """Scikit-learn's 8x8 grey digits, 1,437 + 360; they need no data folder.

    The split is fixed and class-balanced. The values 0 to 16 are multiplied by 15, which is
    lossless, and normalised like other pixels.
    """
    with gzip.open(embedded(), "rt") as file:
        rows = torch.from_numpy(np.loadtxt(file, delimiter=","))
    pixels = (rows[:, :-1] * 15).to(torch.uint8).reshape(-1, 1, 8, 8)
    labels = rows[:, -1].long()
    # a fixed seed, so that the test set is the same for every run
    order = balanced(labels, generator(0, "digits"))
    parts = order[360:].sort().values, order[:360].sort().values
    splits = [(pixels[part], labels[part]) for part in parts]
    whole = _whole("digits", splits, 10, None)
    return whole.subset(examples=examples, validation=validation, seed=seed).normalised()


def embedded() -> Path:
    """Return the file of scikit-learn that contains the digits, train and test."""
    # read as a file, because every worker would need a second to import scikit-learn
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "datasets/data/digits.csv.gz"


def mnist(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """MNIST: 28x28 grey handwritten digits, 60,000 + 10,000, in MNIST/raw."""
    whole = _like_mnist("mnist", "MNIST", root, MNIST_SHA256)
    return whole.subset(examples=examples, validation=validation, seed=seed)


def fashion_mnist(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """Fashion-MNIST: 28x28 grey clothes, 60,000 + 10,000, in FashionMNIST/raw."""
    whole = _like_mnist("fashion_mnist", "FashionMNIST", root, {})
    return whole.subset(examples=examples, validation=validation, seed=seed)


def kmnist(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """Kuzushiji-MNIST: 28x28 grey cursive characters, 60,000 + 10,000, in KMNIST/raw."""
    whole = _like_mnist("kmnist", "KMNIST", root, {})
    return whole.subset(examples=examples, validation=validation, seed=seed)


def cifar10(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """CIFAR-10: 32x32 colour photographs, 50,000 + 10,000, in cifar-10-batches-py."""
    # imported on use, because torchvision takes longer to import than torch
    from torchvision.datasets import CIFAR10

    whole = _like_cifar("cifar10", CIFAR10, "labels", 10, root)
    return whole.subset(examples=examples, validation=validation, seed=seed)


def cifar100(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """CIFAR-100 with its 100 fine labels: 50,000 + 10,000, in cifar-100-python."""
    from torchvision.datasets import CIFAR100

    whole = _like_cifar("cifar100", CIFAR100, "fine_labels", 100, root)
    return whole.subset(examples=examples, validation=validation, seed=seed)


def svhn(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """SVHN: 32x32 colour house numbers, 73,257 + 26,032, in train_32x32.mat, test_32x32.mat."""
    from torchvision.datasets import SVHN

    hint = fetch("svhn", root)
    splits = []
    for split, count in zip(("train", "test"), COUNTS["svhn"], strict=True):
        # torchvision lists the names and the md5 of the published files
        _, file, digest = SVHN.split_list[split]
        path = locate("svhn", root, file, hint)
        splits.append(files.svhn("svhn", path, digest, hint))
        check_count("svhn", path, len(splits[-1][1]), count, hint)
    whole = _whole("svhn", splits, 10, MOMENTS["svhn"])
    return whole.subset(examples=examples, validation=validation, seed=seed)


def tiny_imagenet(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """Tiny ImageNet: 64x64 colour photographs of 200 classes, 100,000 + 10,000 (its val)."""
    name, hint = "tiny_imagenet", fetch("tiny_imagenet", root)
    folder = locate(name, root, "tiny-imagenet-200", hint)
    # the labels of its test images are not public, so its val images are the test set
    parts = image_folder.tiny_imagenet(name, folder, hint)
    for part, split, count in zip(parts, ("train", "val"), COUNTS[name], strict=True):
        check_count(name, folder / split, len(part.files), count, hint)
    whole = _of_folder(name, parts, None, root, MOMENTS[name])
    return whole.subset(examples=examples, validation=validation, seed=seed)


def imagenet(
    root: Path | None, seed: int, *, examples: Examples = None, validation: Validation = 0.0
) -> DataSet:
    """ImageNet (ILSVRC 2012): 1,281,167 + 50,000, streamed from imagenet/{train,val}/CLASS.

    The fingerprint covers file names and labels only: reading all pixels would take hours.
    """
    whole = _streamed("imagenet", root, COUNTS["imagenet"], MOMENTS["imagenet"])
    return whole.subset(examples=examples, validation=validation, seed=seed)


def imagefolder(
    root: Path | None,
    seed: int,
    *,
    path: str = ".",
    size: Annotated[int | None, "[1, 4096]"] = None,
    examples: Examples = None,
    validation: Validation = 0.0,
) -> DataSet:
    """Any folder of images laid out as train/CLASS/* and test/CLASS/* (or val/CLASS/*).

    The data set has the name of the folder. All images are decoded once and cached; they are
    normalised by the mean and standard deviation of the training images.

    Options:
        path: the folder, relative to the data folder or absolute.
        size: crop each image to a square at its centre and scale it to this many pixels; without
            it, all images must have the same shape.
    """
    folder = _image_folder(path, root)
    name = unicodedata.normalize("NFC", folder.resolve().name)
    if not is_data_name(name):
        raise UserError(f"imagefolder: the folder's name {name!r:.80} cannot be used; {DATA_NAME}")
    # otherwise, the results of two data sets would share one name
    if name.casefold() in names("datasets"):
        raise UserError(f"imagefolder: {name!r} is the name of another data set; rename it")
    if size is not None and not 1 <= size <= 4096:
        raise UserError(f"imagefolder: size = {size} is out of range; it is 1 to 4096 pixels")
    layout = f"lay {printable(folder)} out as train/CLASS/*.jpg and test/CLASS/*.jpg"
    # if neither folder is there, the error message names test
    evaluated = "val" if (folder / "val").is_dir() and not (folder / "test").is_dir() else "test"
    for split in ("train", evaluated):
        locate(name, folder, split, layout)
    parts = [image_folder.listed(name, folder, split) for split in ("train", evaluated)]
    image_folder.same_classes(name, *parts)
    # images of another size are another data set, since their results are not comparable
    whole = _of_folder(name if size is None else f"{name}-{size}px", parts, size, root, None)
    return whole.subset(examples=examples, validation=validation, seed=seed).normalised()


def fetch(name: str, root: Path | None) -> str:
    """Return the end of an error message, which says how to download a set."""
    return f"fetch it with: paibench prepare {name} --data {printable(root or 'DIR')}"


def _like_mnist(name: str, folder: str, root: Path | None, digests: Mapping[str, str]) -> DataSet:
    hint = fetch(name, root)
    splits = []
    for prefix, count in zip(("train", "t10k"), COUNTS[name], strict=True):
        for kind in ("images-idx3", "labels-idx1"):
            path = locate(name, root, f"{folder}/raw/{prefix}-{kind}-ubyte", hint)
        splits.append(files.idx(name, path.parent, prefix, digests, hint, count))
    return _whole(name, splits, 10, MOMENTS[name])


def _like_cifar(name: str, source: Any, key: str, classes: int, root: Path | None) -> DataSet:
    hint = fetch(name, root)
    folder = locate(name, root, source.base_folder, hint)
    splits = []
    for batches, count in zip((source.train_list, source.test_list), COUNTS[name], strict=True):
        for file, _ in batches:
            locate(name, root, f"{source.base_folder}/{file}", hint)
        splits.append(files.cifar(name, folder, batches, key, hint))
        check_count(name, folder, len(splits[-1][1]), count, hint)
    return _whole(name, splits, classes, MOMENTS[name])


def _whole(
    name: str, splits: Sequence[Pair], classes: int, pixel_moments: Moments | None
) -> DataSet:
    """Return the data set of two splits; without moments, normalise it once its images are cut."""
    for split, (_, labels) in zip(("train", "test"), splits, strict=True):
        if reason := files.label_fault(split, labels, classes):
            raise UserError(f"{name}: {reason}")
    mean, std = pixel_moments or ((), ())
    train, test = (Images(pixels, labels, classes, mean, std) for pixels, labels in splits)
    return DataSet(name, train, test, fingerprint(*(t for pair in splits for t in pair)))


def _of_folder(
    name: str,
    parts: Sequence[image_folder.Listing],
    size: int | None,
    root: Path | None,
    pixel_moments: Moments | None,
) -> DataSet:
    images = decoded(name, parts, size, cache_folders(root, os.environ))
    names = parts[0].classes
    mean, std = pixel_moments or ((), ())
    train, test = (
        Images(pixels, labels, len(names), mean, std) for pixels, labels in images.splits
    )
    return DataSet(name, train, test, images.fingerprint, class_names=names)


def _streamed(
    name: str, root: Path | None, counts: tuple[int, int], pixel_moments: Moments
) -> DataSet:
    from paibench.benchmark.data.streaming import Stream

    hint = f"lay it out by hand as {name}/train/CLASS/*.JPEG and {name}/val/CLASS/*.JPEG"
    folder = locate(name, root, name, hint)
    parts = []
    digest = hashlib.sha256()
    for split, count in zip(("train", "val"), counts, strict=True):
        locate(name, folder, split, hint)
        parts.append(image_folder.listed(name, folder, split))
        check_count(name, folder / split, len(parts[-1].files), count, hint)
        digest.update(json.dumps([parts[-1].files, parts[-1].labels]).encode())
    image_folder.same_classes(name, *parts)
    train, test = (Stream.of(name, part, pixel_moments) for part in parts)
    return DataSet(name, train, test, digest.hexdigest(), class_names=parts[0].classes)


def _image_folder(path: str, root: Path | None) -> Path:
    folder = Path(path)
    # a spec may come from another person, and must not read the rest of the disk by accident
    if "\0" in path or ".." in folder.parts:
        raise UserError(f"imagefolder: path {path[:80]!r} leaves the data folder")
    if folder.is_absolute():
        # the folders above it need not be readable
        if folder.is_dir():
            return folder
        root, path = Path(folder.anchor), str(folder.relative_to(folder.anchor))
    return locate("imagefolder", root, path, "set the option path to an existing folder")

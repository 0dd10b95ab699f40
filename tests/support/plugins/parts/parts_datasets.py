"""Data sets of a stranger, each with one fault."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paibench.benchmark.data.dataset import DataSet, fingerprint
from paibench.methods.training.data import Batch, Images


def _images(count: int) -> Images:
    draw = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=draw, dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 4, 4, (0.5,), (0.3,))


def _whole(train: Any = None, name: str = "toy") -> DataSet:
    train, test = train or _images(200), _images(40)
    return DataSet(name, train, test, fingerprint(test.pixels, test.labels))


def none_of_it(root: Path | None, seed: int) -> Any:
    """Nothing."""
    return None


def raises_value(root: Path | None, seed: int) -> DataSet:
    """A loader that fails."""
    raise ValueError("no such\nshard")


def leaves_loading(root: Path | None, seed: int) -> DataSet:
    """A loader that ends the process."""
    sys.exit("enough")


def bad_name(root: Path | None, seed: int) -> DataSet:
    """A name that would be a path."""
    return _whole(name="Bad Name/../x\n")


def wrong_pixels(root: Path | None, seed: int) -> DataSet:
    """Pixels of a wrong type."""
    images = _images(200)
    return _whole(replace(images, pixels=images.pixels.to(torch.int32)))


def wrong_labels(root: Path | None, seed: int) -> DataSet:
    """Labels of a wrong type."""
    images = _images(200)
    return _whole(replace(images, labels=images.labels.float()))


def arrays(root: Path | None, seed: int) -> DataSet:
    """Pixels that are no tensor."""
    images: Any = _images(200)
    return _whole(replace(images, pixels=images.pixels.numpy()))


class _Fails(Images):
    def batches(self, indices: Tensor, size: int, **options: Any) -> Iterator[Batch]:
        raise KeyError("shard 3")


def raises_in_batches(root: Path | None, seed: int) -> DataSet:
    """A split that fails when it is read."""
    images = _images(200)
    return _whole(_Fails(images.pixels, images.labels, 4, images.mean, images.std))

"""The file formats of the known sets: idx (MNIST), CIFAR's batches and SVHN's matrices."""

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paibench.benchmark.data.files import printable, unreadable
from paibench.methods.core.registry import UserError

Pair = tuple[Tensor, Tensor]
"""Pixels [n, c, h, w] (uint8) and labels [n] (int64) of one split."""


def contents(name: str, path: Path, hint: str) -> bytes:
    """The bytes of a file; raises UserError where it is none, empty, or cannot be read."""
    try:
        if not path.is_file():  # to read a FIFO would wait for ever
            raise UserError(f"{name}: {printable(path)} is no file; {hint}")
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(name, path, error) from error
    if not data:
        raise UserError(f"{name}: {printable(path)} is empty; {hint}")
    return data


def verify(name: str, path: Path, data: bytes, digest: str, hint: str) -> None:
    """Raise UserError unless `digest` is the sha256 or, where it is shorter, the md5 of `data`."""
    kind = "md5" if len(digest) == 32 else "sha256"
    found = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
    if found != digest:
        raise UserError(
            f"{name}: {printable(path)} is damaged: its {kind} is {found}, "
            f"expected {digest}; {hint}"
        )


def idx(
    name: str, folder: Path, prefix: str, digests: Mapping[str, str], hint: str, count: int
) -> Pair:
    """One split of MNIST or a set made like it: `prefix`-images-idx3-ubyte and its labels.

    `digests` holds the sha256 of those files that are known by one. Raises UserError where a
    file is cut short, has another number of entries than `count`, or is not the known one.
    """
    images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    arrays = []
    for file, dimensions in ((images, 3), (labels, 1)):
        data = contents(name, folder / file, hint)
        arrays.append(_idx_array(name, folder / file, data, dimensions, hint))
        check_count(name, folder / file, len(arrays[-1]), count, hint)
        if file in digests:
            verify(name, folder / file, data, digests[file], hint)
    return arrays[0].unsqueeze(1), arrays[1].long()


def _idx_array(name: str, path: Path, data: bytes, dimensions: int, hint: str) -> Tensor:
    header = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < header:
        raise UserError(f"{name}: {printable(path)} is no idx file of bytes; {hint}")
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4)]
    wanted = header + int(np.prod(shape, dtype=object))
    if len(data) != wanted:
        raise UserError(
            f"{name}: {printable(path)} has {len(data)} bytes, its header says {wanted}; {hint}"
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())


def cifar(name: str, folder: Path, batches: Iterable[tuple[str, str]], key: str, hint: str) -> Pair:
    """One split of CIFAR: its batch files with their md5 in order; `key` names the labels.

    The files are pickles; nothing but bytes with the published md5 is ever unpickled.
    """
    pixels, labels = [], []
    for file, digest in batches:
        data = contents(name, folder / file, hint)
        verify(name, folder / file, data, digest, hint)
        batch: dict[str, Any] = pickle.loads(data, encoding="latin1")
        pixels.append(torch.from_numpy(batch["data"].reshape(-1, 3, 32, 32)))
        labels += batch[key]
    return torch.cat(pixels), torch.tensor(labels)


def svhn(name: str, path: Path, digest: str, hint: str) -> Pair:
    """One split of SVHN's cropped digits; the label 10 stands for the digit 0."""
    from scipy.io import loadmat

    data = contents(name, path, hint)
    verify(name, path, data, digest, hint)
    found = loadmat(io.BytesIO(data), variable_names=("X", "y"))
    pixels = torch.from_numpy(found["X"]).permute(3, 2, 0, 1).contiguous()
    return pixels, torch.from_numpy(found["y"].astype(np.int64).reshape(-1) % 10)


def check_count(name: str, place: Path, found: int, expected: int, hint: str) -> None:
    """Raise UserError where a split has not the number of examples it is known to have."""
    if found != expected:
        raise UserError(
            f"{name}: {printable(place)} has {found} examples, expected {expected}; {hint}"
        )


def check_labels(name: str, split: str, labels: Tensor, classes: int) -> None:
    """Raise UserError where a label is out of range, or a class has no example in the split."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"{name}: {split} has labels from {low} to {high}, not 0 to {classes - 1}")
    empty = (labels.bincount(minlength=classes) == 0).nonzero().flatten().tolist()
    if empty:
        raise UserError(
            f"{name}: class {empty[0]} has no example in {split}; every class needs one"
        )

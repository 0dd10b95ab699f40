"""Find and read the files of the public data sets: idx (MNIST), CIFAR's batches, SVHN's matrices.

torchvision reads the same files, but says less about damaged ones: its errors name no file, and a
flipped byte of MNIST passes. Here every error is one line that names the file and the remedy, and
the bytes that are read are the ones that were verified.
"""

import hashlib
import io
import os
import pickle
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paibench.methods.core.registry import UserError
from paibench.methods.core.text import printable

Pair = tuple[Tensor, Tensor]
"""Pixels [n, c, h, w] (uint8) and labels [n] (int64) of one split."""


def locate(name: str, root: Path | None, parts: str, hint: str) -> Path:
    """Return `root`/`parts`, found by exact names on every file system.

    The two Unicode forms of é are one name. Raises UserError that says what is missing and ends
    with `hint`, or with what to rename if two names differ only in case or Unicode form.
    """
    if root is None:
        raise UserError(f"{name}: no data folder given; set PAIBENCH_DATA or --data")
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"{name}: the data folder {printable(path)} does not exist; {hint}")
    for part in PurePath(parts).parts:
        try:
            # a listing has the exact names; some file systems ignore case when they open a file
            names = os.listdir(path)
        except OSError as error:
            raise unreadable(name, path, error) from error
        wanted = unicodedata.normalize("NFC", part)
        by_form = {other: unicodedata.normalize("NFC", other) for other in sorted(names)}
        same = [other for other, form in by_form.items() if form == wanted]
        if not same:
            other = next((o for o in by_form if by_form[o].casefold() == wanted.casefold()), None)
            if other:
                hint = f"rename {printable(other)} beside it to {printable(part)}"
            raise UserError(f"{name}: {printable(path / part)} is missing; {hint}")
        if len(same) > 1:
            raise UserError(
                f"{name}: {printable(path)} has two entries {printable(part)}, in different forms "
                "of Unicode; rename one"
            )
        path = path / same[0]
    return path


def unreadable(name: str, path: Path, error: OSError) -> UserError:
    """Return the error for a file or folder that the system does not let us read."""
    return UserError(f"{name}: {printable(path)} cannot be read: {error.strerror or error}")


def idx(
    name: str, folder: Path, prefix: str, digests: Mapping[str, str], hint: str, count: int
) -> Pair:
    """Read one split of MNIST or a set like it: `prefix`-images-idx3-ubyte and its labels.

    `digests` holds the known sha256 of files. Raises UserError if a file is cut short, does not
    have `count` entries, or has another digest.
    """
    images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    arrays = []
    for file, dimensions in ((images, 3), (labels, 1)):
        data = _contents(name, folder / file, hint)
        arrays.append(_idx_array(name, folder / file, data, dimensions, hint))
        check_count(name, folder / file, len(arrays[-1]), count, hint)
        if file in digests:
            _verify(name, folder / file, data, digests[file], hint)
    return arrays[0].unsqueeze(1), arrays[1].long()


def _idx_array(name: str, path: Path, data: bytes, dimensions: int, hint: str) -> Tensor:
    header = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < header:
        raise UserError(f"{name}: {printable(path)} is not an idx file of bytes; {hint}")
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4)]
    # dtype=object, because a damaged header may give a product beyond 64 bits
    size = header + int(np.prod(shape, dtype=object))
    if len(data) != size:
        raise UserError(
            f"{name}: {printable(path)} has {len(data)} bytes, its header says {size}; {hint}"
        )
    # copied, because frombuffer gives a read-only array and torch needs a writable one
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())


def cifar(name: str, folder: Path, batches: Iterable[tuple[str, str]], key: str, hint: str) -> Pair:
    """Read one split of CIFAR from its batch files and their md5; `key` names the labels.

    The files are pickles, which can execute code: only bytes with the published md5 are loaded.
    """
    pixels, labels = [], []
    for file, digest in batches:
        data = _contents(name, folder / file, hint)
        _verify(name, folder / file, data, digest, hint)
        # Python 2 wrote these pickles; latin1 maps their bytes to text one to one
        batch: dict[str, Any] = pickle.loads(data, encoding="latin1")
        pixels.append(torch.from_numpy(batch["data"].reshape(-1, 3, 32, 32)))
        labels += batch[key]
    return torch.cat(pixels), torch.tensor(labels)


def svhn(name: str, path: Path, digest: str, hint: str) -> Pair:
    """Read one split of SVHN's cropped digits; the label 10 stands for the digit 0."""
    from scipy.io import loadmat

    data = _contents(name, path, hint)
    _verify(name, path, data, digest, hint)
    # from the verified bytes, because the file may have changed since
    matrices = loadmat(io.BytesIO(data), variable_names=("X", "y"))
    # Matlab's order is height, width, channel, image
    pixels = torch.from_numpy(matrices["X"]).permute(3, 2, 0, 1).contiguous()
    return pixels, torch.from_numpy(matrices["y"].astype(np.int64).reshape(-1) % 10)


def check_count(name: str, path: Path, count: int, expected: int, hint: str) -> None:
    """Raise UserError unless a split has the expected number of examples."""
    if count != expected:
        raise UserError(
            f"{name}: {printable(path)} has {count} examples, expected {expected}; {hint}"
        )


def label_fault(split: str, labels: Tensor, classes: int) -> str | None:
    """Return why labels are unfit: one is out of range, or a class has no example in the split."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        return f"{split} has labels from {low} to {high}, not 0 to {classes - 1}"
    empty = (labels.bincount(minlength=classes) == 0).nonzero().flatten().tolist()
    if empty:
        return f"class {empty[0]} has no example in {split}; every class needs one"
    return None


def _contents(name: str, path: Path, hint: str) -> bytes:
    try:
        if not path.is_file():  # reading a FIFO would block forever
            raise UserError(f"{name}: {printable(path)} is not a file; {hint}")
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(name, path, error) from error
    if not data:
        raise UserError(f"{name}: {printable(path)} is empty; {hint}")
    return data


def _verify(name: str, path: Path, data: bytes, digest: str, hint: str) -> None:
    """Raise UserError unless `digest` is the sha256 of `data`, or its md5 if it is shorter."""
    kind = "md5" if len(digest) == 32 else "sha256"
    # a system in FIPS mode refuses md5 unless it is declared as no security measure
    actual = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
    if actual != digest:
        raise UserError(
            f"{name}: {printable(path)} is damaged: its {kind} is {actual}, "
            f"expected {digest}; {hint}"
        )

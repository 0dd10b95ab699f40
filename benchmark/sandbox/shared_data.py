"""Training data lent to another process: one copy in memory, which the borrower cannot change.

Nothing else of the data set goes along: neither the split that is evaluated nor a path to it.
"""

import mmap
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paibench.benchmark.data.dataset import DataSet, DataSplit
from paibench.benchmark.data.streaming import Stream
from paibench.methods.core.registry import UserError
from paibench.methods.training.data import Images


@dataclass(frozen=True)
class SharedSplit:
    """An open file with the tensors of a split, and what is to be known to read it (plain)."""

    descriptor: int
    about: dict[str, Any]
    folders: tuple[Path, ...] = ()
    """Where the images lie of a split that is read as it goes."""


_last: list[tuple[DataSplit, SharedSplit]] = []


def share(data: DataSet) -> SharedSplit:
    """A loan of the training split; one that was lent just before is not copied again.

    Raises UserError for a split of a kind that only its own data set knows, and where images that
    are held out lie among those that would be lent.
    """
    split = data.train
    if isinstance(split, Stream) and data.evaluation == "validation":
        raise UserError(
            f"{data.name}: its held-out images lie among the others, where a method of a third "
            "party could read them; evaluate on the test set, or say --trusted"
        )
    if _last and _last[0][0] is split:
        return _last[0][1]
    while _last:
        os.close(_last.pop()[1].descriptor)
    loan = _loan(split)
    _last.append((split, loan))
    return loan


def attach(descriptor: int, about: dict[str, Any], device: torch.device) -> DataSplit:
    """The split behind a loan, on a device."""
    size = os.fstat(descriptor).st_size
    # private: what is written to it is seen by the writer alone
    memory = mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    first, labels = (
        torch.frombuffer(memory, dtype=getattr(torch, kind), count=count, offset=offset)
        for kind, count, offset in about["tensors"]
    )
    known = tuple(about["mean"]), tuple(about["std"])
    if about["kind"] == "images":
        images = Images(first.view(about["shape"]), labels, about["classes"], *known)
        return images.to(device)
    files = np.frombuffer(first.numpy().tobytes(), dtype=f"S{about['width']}")
    named = about["name"], about["folder"]
    return Stream(*named, files, labels, about["classes"], *known, device)


def _loan(split: DataSplit) -> SharedSplit:
    common = {"classes": split.classes, "mean": split.mean, "std": split.std}
    if isinstance(split, Images):
        about = common | {"kind": "images", "shape": list(split.pixels.shape)}
        return _written(about, split.pixels, split.labels)
    if isinstance(split, Stream):
        files = np.ascontiguousarray(split.files)
        about = common | {"kind": "stream", "name": split.name, "folder": split.folder}
        about |= {"width": files.itemsize}
        folders = {os.path.dirname(os.fsdecode(file)) for file in split.files}
        loan = _written(about, torch.from_numpy(files.view(np.uint8)), split.labels)
        return replace(loan, folders=tuple(Path(split.folder, each) for each in sorted(folders)))
    raise UserError(
        f"its training data are of the type {type(split).__name__}; a method of a third party can "
        "be given Images or a Stream, see docs/add-a-method.md"
    )


def _written(about: dict[str, Any], first: Tensor, labels: Tensor) -> SharedSplit:
    """A loan of two tensors, in an open file without a name that can no longer change (Linux)."""
    # the labels come first in the file: theirs are the larger numbers, which are to be aligned
    parts = [part.cpu().contiguous() for part in (labels, first)]
    descriptor = _unnamed_file()
    rows: list[tuple[str, int, int]] = []
    with open(descriptor, "wb", closefd=False) as file:
        for part in parts:
            rows.append((str(part.dtype).removeprefix("torch."), part.numel(), file.tell()))
            file.write(part.numpy().reshape(-1).view(np.uint8).data)
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return SharedSplit(descriptor, about | {"tensors": rows[::-1]})


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("paibench", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor

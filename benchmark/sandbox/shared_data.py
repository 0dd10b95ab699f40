"""Share the training split read-only with the sandbox: one copy in memory.

Nothing else of the data set is shared: neither the evaluated split nor a path to it.
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
    """An open file with the tensors of a split, and plain values that describe them."""

    descriptor: int
    about: dict[str, Any]
    folders: tuple[Path, ...] = ()
    """The folders of the images, for a split that streams them."""


_last: list[tuple[DataSplit, SharedSplit]] = []


def share(data: DataSet) -> SharedSplit:
    """Share the training split; the split that was shared last is not copied again.

    Raises UserError for an unknown type of split, and if the shared folders also contain held-out
    images.
    """
    split = data.train
    if isinstance(split, Stream) and data.evaluation == "validation":
        raise UserError(
            f"{data.name}: its held-out images lie among the training images, where a "
            "third-party method could read them; evaluate on the test set, or use --trusted"
        )
    if _last and _last[0][0] is split:
        return _last[0][1]
    # only one split stays open, because each takes as much memory as its data
    while _last:
        os.close(_last.pop()[1].descriptor)
    shared = _share(split)
    _last.append((split, shared))
    return shared


def attach(descriptor: int, about: dict[str, Any], device: torch.device) -> DataSplit:
    """Return a shared split on a device."""
    size = os.fstat(descriptor).st_size
    # private: the sandbox sees its own writes, and nobody else does
    memory = mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    first, labels = (
        torch.frombuffer(memory, dtype=getattr(torch, kind), count=count, offset=offset)
        for kind, count, offset in about["tensors"]
    )
    statistics = tuple(about["mean"]), tuple(about["std"])
    if about["kind"] == "images":
        images = Images(first.view(about["shape"]), labels, about["classes"], *statistics)
        return images.to(device)
    files = np.frombuffer(first.numpy().tobytes(), dtype=f"S{about['width']}")
    source = about["name"], about["folder"]
    return Stream(*source, files, labels, about["classes"], *statistics, device)


def _share(split: DataSplit) -> SharedSplit:
    common = {"classes": split.classes, "mean": split.mean, "std": split.std}
    if isinstance(split, Images):
        about = common | {"kind": "images", "shape": list(split.pixels.shape)}
        return _write(about, split.pixels, split.labels)
    if isinstance(split, Stream):
        files = np.ascontiguousarray(split.files)
        about = common | {"kind": "stream", "name": split.name, "folder": split.folder}
        about |= {"width": files.itemsize}
        folders = {os.path.dirname(os.fsdecode(file)) for file in split.files}
        shared = _write(about, torch.from_numpy(files.view(np.uint8)), split.labels)
        return replace(shared, folders=tuple(Path(split.folder, each) for each in sorted(folders)))
    raise UserError(
        f"its training data have the type {type(split).__name__}; a third-party method needs "
        "Images or a Stream, see docs/add-a-method.md"
    )


def _write(about: dict[str, Any], first: Tensor, labels: Tensor) -> SharedSplit:
    """Write two tensors to an open file without a name, and seal it against changes (Linux)."""
    # labels first: they have the larger items, which must be aligned
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
    # without a name, the file disappears when its descriptor is closed
    os.unlink(path)
    return descriptor

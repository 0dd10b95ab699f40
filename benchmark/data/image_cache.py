"""Folders of images decoded once, and found again as one file that is data and nothing else."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from paibench.benchmark.data.dataset import fingerprint
from paibench.benchmark.data.files import printable, unreadable
from paibench.benchmark.data.image_folder import Listing
from paibench.benchmark.store import atomic
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.methods.core.registry import UserError

_LAYOUT = "1"  # a number to raise when the same files would be decoded to something else
_LARGEST = 2**40


@dataclass(frozen=True)
class Decoded:
    """The pixels [n, c, h, w] (uint8) and labels [n] of each listing, and their fingerprint."""

    splits: tuple[tuple[Tensor, Tensor], ...]
    fingerprint: str


def decoded(
    name: str, listings: Sequence[Listing], size: int | None, keep_in: Sequence[Path]
) -> Decoded:
    """All images, decoded now or found in the first of the folders `keep_in` that has them.

    They are kept under a name made of every file's path, size and time of change, so that any
    change decodes again; a kept file whose content does not fit its fingerprint is decoded
    again too. Any number of processes may ask at once. With `size`, images are cut to a square
    at the centre and scaled to it. Raises UserError that names a file that cannot be decoded.
    """
    key = _manifest(name, listings, size)
    labels = [torch.tensor(listing.labels) for listing in listings]
    for folder in keep_in:
        found = _found(folder / f"{name}-{key}.safetensors", labels)
        if found is not None:
            return found
    pixels = _decode(name, listings, size)
    if _manifest(name, listings, size) != key:
        raise UserError(
            f"{name}: files in {printable(listings[0].folder)} changed while they were read"
        )
    splits = tuple(zip(pixels, labels, strict=True))
    fresh = Decoded(splits, fingerprint(*(tensor for pair in splits for tensor in pair)))
    _keep(keep_in, f"{name}-{key}.safetensors", fresh)
    return fresh


def _manifest(name: str, listings: Sequence[Listing], size: int | None) -> str:
    digest = hashlib.sha256(f"{_LAYOUT} {size}\n".encode())
    for listing in listings:
        for file, label in zip(listing.files, listing.labels, strict=True):
            path = os.path.join(listing.folder, file)
            try:
                info = os.stat(path)
            except OSError as error:
                raise unreadable(name, Path(path), error) from error
            line = json.dumps([file, label, info.st_size, info.st_mtime_ns])
            digest.update(line.encode())
    return digest.hexdigest()[:16]


def _decode(name: str, listings: Sequence[Listing], size: int | None) -> list[Tensor]:
    """[n, c, h, w] uint8 for each listing; one channel where all images are grey, else three."""
    shape: tuple[int, ...] | None = None
    all_grey = True
    arrays = []
    for listing in listings:
        for number, file in enumerate(listing.files):
            path = os.path.join(listing.folder, file)
            image, grey = rgb(name, path)
            if size is not None and image.size != (size, size):
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            values = np.asarray(image)
            shape = shape or values.shape
            if values.shape != shape:
                raise UserError(
                    f"{name}: {printable(path)} is {image.width}x{image.height} and the first "
                    f"image is {shape[1]}x{shape[0]}; set the option size to scale them"
                )
            if number == 0:
                arrays.append(np.empty((len(listing.files), *shape), np.uint8))
            arrays[-1][number] = values
            all_grey = all_grey and grey
    channels = 1 if all_grey else 3
    return [torch.from_numpy(a[..., :channels]).permute(0, 3, 1, 2).contiguous() for a in arrays]


def rgb(name: str, path: str) -> tuple[Image.Image, bool]:
    """An image file as red, green and blue, and whether it is grey.

    Raises UserError where it is damaged, cannot be read, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"mode {image.mode}, more than 8 bits a channel")
            return image.convert("RGB"), image.mode in ("1", "L")
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        why = " ".join(str(error).replace(path, "the file").split())[:200]
        raise UserError(
            f"{name}: {printable(path)} cannot be decoded: {why}; replace it"
        ) from error


def _found(path: Path, labels: Sequence[Tensor]) -> Decoded | None:
    try:
        data = atomic.read(path, limit=_LARGEST)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        stored = from_bytes(data)
        splits = tuple((stored[str(number)], each) for number, each in enumerate(labels))
        wanted = header["__metadata__"]["fingerprint"]
    except (OSError, Corrupt, ValueError, KeyError, TypeError, SafetensorError):
        return None
    found = fingerprint(*(tensor for pair in splits for tensor in pair))
    return Decoded(splits, found) if found == wanted else None


def _keep(folders: Sequence[Path], file: str, fresh: Decoded) -> None:
    tensors = {str(number): pixels for number, (pixels, _) in enumerate(fresh.splits)}
    data = to_bytes(tensors, metadata={"fingerprint": fresh.fingerprint})
    reasons = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return atomic.replace_atomic(folder / file, data)
        except OSError as error:
            reasons.append(str(error))
    if reasons:
        text = f"decoded images could not be kept, set PAIBENCH_CACHE: {'; '.join(reasons)}"
        warnings.warn(text, stacklevel=3)


def cache_folders(root: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """Where decoded images may be kept, the best place first.

    That is PAIBENCH_CACHE alone where it is set, else a hidden folder in the data folder, and
    ~/.cache/paibench for where that cannot be written.
    """
    if environment.get("PAIBENCH_CACHE"):
        return [Path(environment["PAIBENCH_CACHE"])]
    own = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paibench"
    return [own] if root is None else [Path(root) / ".paibench", own]

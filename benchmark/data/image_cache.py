"""Decode folders of images once, and cache the pixels in one safetensors file."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from paibench.benchmark.data.dataset import fingerprint
from paibench.benchmark.data.files import unreadable
from paibench.benchmark.data.image_folder import Listing
from paibench.benchmark.store import atomic
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import printable

_LAYOUT = "2"  # increase it when the same files are decoded to other pixels
_LARGEST = 2**40
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image is turned upright, by its orientation."""


@dataclass(frozen=True)
class Decoded:
    """The pixels [n, c, h, w] (uint8) and labels [n] of each listing, and their fingerprint."""

    splits: tuple[tuple[Tensor, Tensor], ...]
    fingerprint: str


def decoded(
    name: str, listings: Sequence[Listing], size: int | None, keep_in: Sequence[Path]
) -> Decoded:
    """Return all images, from the first of the folders `keep_in` that has them, or decode them.

    The name of the cached file has a hash of every image's path, size and time of change, so any
    change decodes again. So does a cached file that does not fit its fingerprint. Any number of
    processes may call this at once. With `size`, images are cropped to a square at the centre and
    scaled to it. Raises UserError that names a file that cannot be decoded.
    """
    key = _manifest(name, listings, size)
    # plain on any file system; the key distinguishes names that become equal
    plain_name = re.sub("[^a-z0-9_.-]+", "-", name.lower())[:64].strip("-.") or "images"
    file_name = f"{plain_name}-{key}.safetensors"
    labels = [torch.tensor(listing.labels) for listing in listings]
    for folder in keep_in:
        cached = _load(folder / file_name, labels)
        if cached is not None:
            return cached
    pixels = _decode(name, listings, size)
    # pixels of changed files would stay in the cache under the key of the old files
    if _manifest(name, listings, size) != key:
        raise UserError(
            f"{name}: files in {printable(listings[0].folder)} changed while they were read"
        )
    splits = tuple(zip(pixels, labels, strict=True))
    fresh = Decoded(splits, fingerprint(*(tensor for pair in splits for tensor in pair)))
    _save(keep_in, file_name, fresh)
    return fresh


def _manifest(name: str, listings: Sequence[Listing], size: int | None) -> str:
    digest = hashlib.sha256(f"{_LAYOUT} {size} {name}\n".encode())
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
    """Return [n, c, h, w] uint8 for each listing, with one channel if all images are grey."""
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
                # allocated at once, because stacking separate images would need the memory twice
                arrays.append(np.empty((len(listing.files), *shape), np.uint8))
            arrays[-1][number] = values
            all_grey = all_grey and grey
    channels = 1 if all_grey else 3
    return [torch.from_numpy(a[..., :channels]).permute(0, 3, 1, 2).contiguous() for a in arrays]


def rgb(name: str, path: str) -> tuple[Image.Image, bool]:
    """Return an image file as red, green and blue, and whether it is grey.

    It is turned upright as its EXIF orientation says, and alpha is dropped. Raises UserError if it
    is damaged, cannot be read, or would lose bits or frames.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _refuse_losses(image)
            # Pillow warns of some, and alpha is dropped in any case
            image.info.pop("transparency", None)
            return _upright(image.convert("RGB"), image), _is_grey(image)
    except Exception as error:  # Pillow's decoders raise errors of many types for damaged files
        why = " ".join(str(error).replace(path, "the file").split())[:200]
        raise UserError(
            f"{name}: {printable(path)} cannot be decoded: {why}; replace it"
        ) from error


def _refuse_losses(image: Image.Image) -> None:
    """Raise ValueError for an image of which Pillow would drop bits or frames in silence."""
    # of a photograph with several pictures (MPO), the first is the photograph
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ValueError(f"it has {frames} frames, not one")
    deep = image.mode[0] in "IF"
    # Pillow opens 16 bits per channel as mode RGB in these formats
    coding = image.tile[0][3] if isinstance(image, ImageFile) and image.tile else ""
    if image.format == "PNG":
        deep = deep or "16" in str(coding)
    elif image.format == "PPM":
        deep = deep or (isinstance(coding, tuple) and coding[1] > 255)  # the largest value
    elif isinstance(image, TiffImageFile):
        deep = deep or max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8
    if deep:
        raise ValueError("it has more than 8 bits per channel")


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Return `pixels` turned as the EXIF orientation of the image file says."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF is no reason to refuse sound pixels
        return pixels
    return pixels.transpose(_TURNS[orientation]) if orientation in _TURNS else pixels


def _is_grey(image: Image.Image) -> bool:
    """Return whether a file stores grey values, with or without alpha, or a palette of greys."""
    if image.mode in ("P", "PA"):
        palette = np.reshape(image.getpalette() or (), (-1, 3))
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA")


def _load(path: Path, labels: Sequence[Tensor]) -> Decoded | None:
    try:
        data = atomic.read(path, limit=_LARGEST)
        stored = from_bytes(data)
        splits = tuple((stored[str(number)], each) for number, each in enumerate(labels))
        expected = bytes(stored["fingerprint"].tolist()).hex()
    # a damaged cache is treated like a missing one: the images are decoded again
    except (OSError, Corrupt, ValueError, KeyError, TypeError, SafetensorError):
        return None
    # computed again, because a flipped bit would change the data set unnoticed
    actual = fingerprint(*(tensor for pair in splits for tensor in pair))
    return Decoded(splits, actual) if actual == expected else None


def _save(folders: Sequence[Path], file: str, fresh: Decoded) -> None:
    tensors = {str(number): pixels for number, (pixels, _) in enumerate(fresh.splits)}
    tensors["fingerprint"] = torch.tensor(list(bytes.fromhex(fresh.fingerprint)), dtype=torch.uint8)
    data = to_bytes(tensors)
    # a run does not need the cache, so a failure to write is only a warning
    reasons = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return atomic.replace_atomic(folder / file, data)
        except OSError as error:
            reasons.append(str(error))
    if reasons:
        text = f"decoded images could not be cached, set PAIBENCH_CACHE: {'; '.join(reasons)}"
        warnings.warn(text, stacklevel=3)


def cache_folders(root: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """Return the folders for decoded images, the preferred one first.

    This is PAIBENCH_CACHE alone if it is set, else a hidden folder in the data folder, and
    ~/.cache/paibench if that is read-only.
    """
    if environment.get("PAIBENCH_CACHE"):
        return [Path(environment["PAIBENCH_CACHE"])]
    own = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paibench"
    return [own] if root is None else [Path(root) / ".paibench", own]

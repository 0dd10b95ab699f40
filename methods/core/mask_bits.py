"""Mask files as numpy reads and writes them: safetensors with one bit per weight and a digest.

Nothing here imports torch, so that the leaderboard can check mask files on any laptop. The torch
side is `mask_file`. No byte of a file is executed or trusted: names, shapes, lengths, spare bits
and digest must agree.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from paibench.methods.core.registry import UserError

Bits = np.ndarray[tuple[int], np.dtype[np.uint8]]
Shape = tuple[int, ...]

_MAX_SIZE = 2**40  # weights of one layer
_MAX_DIMENSIONS = 8
_ECHO = 80  # characters of a file that a message repeats


class BadMaskFile(UserError):
    """A file that is not a valid mask file; the message is one line with the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"mask file: {reason}")


@dataclass(frozen=True)
class PackedMask:
    """A mask with eight weights to a byte: the shape and the bits of each layer, by name.

    Bits are in row-major order, the lowest bit of a byte first; spare bits of a last byte are 0.
    """

    shapes: Mapping[str, Shape]
    bits: Mapping[str, Bits]

    @property
    def sizes(self) -> dict[str, int]:
        """The number of weights of each layer."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @cached_property
    def kept(self) -> dict[str, int]:
        """The number of kept weights of each layer."""
        counts = {name: np.bitwise_count(bits) for name, bits in self.bits.items()}
        return {name: int(count.sum(dtype=np.int64)) for name, count in counts.items()}

    @cached_property
    def sha256(self) -> str:
        """The digest of names, shapes and bits; the order of the layers does not matter."""
        hasher = hashlib.sha256()
        for name in sorted(self.shapes):
            # One line of JSON, then as many bytes as its shape says: no two masks read the same.
            hasher.update(json.dumps([name, self.shapes[name]]).encode() + b"\n")
            hasher.update(self.bits[name].tobytes())
        return hasher.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the mask as a safetensors file.

        The header's one entry of metadata, `mask`, is JSON with the shapes and the digest. Equal
        masks in equal order give equal bytes.
        """
        description = {"shapes": self.shapes, "sha256": self.sha256}
        return save(dict(self.bits), metadata={"mask": json.dumps(description)})


def encode(mask: Mapping[str, np.ndarray[Any, Any]]) -> PackedMask:
    """Pack boolean arrays; true means kept."""
    shapes = {name: array.shape for name, array in mask.items()}
    bits = {n: np.packbits(array.reshape(-1), bitorder="little") for n, array in mask.items()}
    return PackedMask(shapes, bits)


def decode(data: bytes) -> PackedMask:
    """Return the mask in the bytes of a file. Raises BadMaskFile, and nothing else."""
    try:
        entries = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise BadMaskFile(f"not safetensors: {_short(str(error))}") from error
    shapes, sha256 = _about(data)
    if unmatched := set(shapes) ^ set(entries):
        raise BadMaskFile(f"{_short(min(unmatched))} is named in its header or its data alone")
    mask = PackedMask(shapes, {name: _bits(name, shapes[name], entries[name]) for name in shapes})
    if mask.sha256 != sha256:
        raise BadMaskFile("the bits do not have the sha256 that the header states")
    return mask


def unpack(bits: Bits, shape: Shape) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the boolean array of one layer."""
    flat = np.unpackbits(bits, count=math.prod(shape), bitorder="little")
    return flat.astype(np.bool_).reshape(shape)


def _about(data: bytes) -> tuple[dict[str, Shape], str]:
    """Return the shapes and the sha256 that the header of a valid safetensors file states."""
    # safetensors begins with the length of its JSON header, in 8 bytes
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    try:
        metadata = json.loads(header, object_pairs_hook=_unique)["__metadata__"]
        description = json.loads(metadata["mask"], object_pairs_hook=_unique)
        shapes = {name: tuple(shape) for name, shape in description["shapes"].items()}
        return shapes, description["sha256"]
    # a BadMaskFile is a ValueError too, but has its own reason
    except BadMaskFile:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadMaskFile("no shapes and sha256 in its header's metadata") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of equal names, other readers the first: such a file means two masks
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise BadMaskFile("its header has a name twice")
    return unique


def _bits(name: str, shape: Shape, entry: Mapping[str, Any]) -> Bits:
    """Return the bits of a layer after checking their type, number and spare bits."""
    if entry["dtype"] != "U8" or len(entry["shape"]) != 1:
        kind = f"{entry['dtype']} of {len(entry['shape'])} dimensions"
        raise BadMaskFile(f"{_short(name)} is {kind}, needed packed bits (U8 of 1)")
    # type, because True is an int to isinstance
    sides = all(type(side) is int and 0 <= side <= _MAX_SIZE for side in shape)
    if not sides or len(shape) > _MAX_DIMENSIONS or math.prod(shape) > _MAX_SIZE:
        raise BadMaskFile(f"{_short(name)} has the shape {_short(shape)}")
    bits, count = np.frombuffer(entry["data"], np.uint8), math.prod(shape)
    if bits.size != -(-count // 8):
        raise BadMaskFile(f"{_short(name)} has {bits.size} bytes for {count} bits")
    if count % 8 and int(bits[-1]) >> count % 8:
        raise BadMaskFile(f"{_short(name)} has bits beyond its {count} weights")
    return bits


def _short(echo: object) -> str:
    return repr(echo)[:_ECHO]

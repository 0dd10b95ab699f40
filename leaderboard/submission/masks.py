"""Mask files read with numpy alone: the format of `methods/mask_file.py`, opened as data.

A header of JSON and bytes that are counted; nothing is executed, and no length that the file
states is believed before it is compared with what is there.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paibench.benchmark.seal import Corrupt, without_duplicates

Bits = np.ndarray[tuple[int], np.dtype[np.uint8]]
Shape = tuple[int, ...]

_HEADER = 2**20
_MOST = 2**40  # weights of one layer


@dataclass(frozen=True)
class Mask:
    """A mask as its file says it: shapes and counts by layer, and the digest of all of it."""

    shapes: Mapping[str, Shape]
    kept: Mapping[str, int]
    sha256: str

    @property
    def sizes(self) -> dict[str, int]:
        """The weights of each layer."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}


def parse(data: bytes) -> Mask:
    """The mask in the bytes of a file.

    Raises Corrupt, and nothing else, unless header, lengths, spare bits and the digest that the
    header states all agree.
    """
    header, body = _header(data)
    try:
        about = json.loads(header.pop("__metadata__")["mask"], object_pairs_hook=without_duplicates)
        shapes = {name: tuple(shape) for name, shape in about["shapes"].items()}
        stated = about["sha256"]
    except Corrupt:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise Corrupt("its header states no shapes and sha256 of a mask") from None
    bits = _bits(header, body)
    if shapes.keys() != bits.keys():
        raise Corrupt("its header names other layers than it holds")
    for name, shape in shapes.items():
        _check_layer(name, shape, bits[name])
    sha256 = _digest(shapes, bits)
    if sha256 != stated:
        raise Corrupt("its bits do not have the sha256 that its header states")
    kept = {name: int(np.bitwise_count(bits[name]).sum(dtype=np.int64)) for name in shapes}
    return Mask(shapes, kept, sha256)


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the bytes after it."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_HEADER, len(data) - 8):
        raise Corrupt("it is no safetensors file: its header does not end in it")
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=without_duplicates)
    except Corrupt:
        raise
    except (ValueError, RecursionError):
        raise Corrupt("it is no safetensors file: its header is no JSON") from None
    if not isinstance(header, dict):
        raise Corrupt("it is no safetensors file: its header is no object")
    return header, data[8 + length :]


def _bits(header: Mapping[str, Any], body: bytes) -> dict[str, Bits]:
    """The bytes of each layer; together they are the whole of the body, each once."""
    places = {}
    for name, entry in header.items():
        try:
            dtype, (length,), (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise Corrupt(f"{name[:80]!r} is no vector") from None
        whole = all(type(number) is int for number in (length, begin, end))
        if dtype != "U8" or not whole or end - begin != length:
            raise Corrupt(f"{name[:80]!r} is not packed bits")
        places[name] = (begin, end)
    at = 0
    for begin, end in sorted(places.values()):
        if begin != at or end < begin:
            raise Corrupt("its layers overlap or leave gaps")
        at = end
    if at != len(body):
        raise Corrupt(f"its layers have {at} bytes, {len(body)} are there")
    whole_body = np.frombuffer(body, np.uint8)
    return {name: whole_body[begin:end] for name, (begin, end) in places.items()}


def _check_layer(name: str, shape: tuple[Any, ...], bits: Bits) -> None:
    sides = all(type(side) is int and 0 <= side <= _MOST for side in shape) and len(shape) <= 8
    count = math.prod(shape) if sides else -1
    if not 0 <= count <= _MOST:
        raise Corrupt(f"{name[:80]!r} has a shape that no layer has")
    if bits.size != -(-count // 8):
        raise Corrupt(f"{name[:80]!r} has {bits.size} bytes for {count} bits")
    if count % 8 and int(bits[-1]) >> count % 8:
        raise Corrupt(f"{name[:80]!r} has bits beyond its {count} weights")


def _digest(shapes: Mapping[str, Shape], bits: Mapping[str, Bits]) -> str:
    """As `methods.mask_file.digest` defines it; a test holds the two together."""
    whole = hashlib.sha256()
    for name in sorted(shapes):
        whole.update(json.dumps([name, shapes[name]]).encode() + b"\n")
        whole.update(bits[name].tobytes())
    return whole.hexdigest()

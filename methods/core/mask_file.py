"""Masks as files: safetensors with one bit a weight, and a digest of what the mask says."""

import hashlib
import json
import math
from collections.abc import Mapping

import numpy
import torch
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save
from torch import Tensor

from paibench.methods.core.mask import Mask
from paibench.methods.core.registry import UserError

Bytes = numpy.ndarray[tuple[int], numpy.dtype[numpy.uint8]]
Shape = tuple[int, ...]


def digest(mask: Mapping[str, Tensor]) -> str:
    """The sha256 of a mask's names, shapes and bits, whatever the file or device it lies in."""
    return _digest({name: tuple(kept.shape) for name, kept in mask.items()}, _packed(mask))


def to_bytes(mask: Mapping[str, Tensor]) -> bytes:
    """The mask as safetensors: per name its bits in row-major order, eight to a byte, low first.

    The header's one entry of metadata, `mask`, is JSON with the shapes and the digest. Equal
    masks in equal order give equal bytes.
    """
    shapes = {name: tuple(kept.shape) for name, kept in mask.items()}
    packed = _packed(mask)
    about = {"shapes": shapes, "sha256": _digest(shapes, packed)}
    return save(packed, metadata={"mask": json.dumps(about)})


def from_bytes(data: bytes) -> Mask:
    """The mask that `to_bytes` wrote, on the CPU.

    Nothing in the file is executed. Raises UserError, naming what is wrong, unless names,
    shapes, lengths and digest all agree and the bits that fill the last bytes are 0.
    """
    tensors = _tensors(data)
    shapes, sha256 = _about(data)
    if set(shapes) != set(tensors):
        odd = min(set(shapes) ^ set(tensors))
        raise UserError(f"mask file: {_short(odd)} is named in its header or its data alone")
    packed = {name: tensors[name] for name in shapes}
    for name, shape in shapes.items():
        count, have = math.prod(shape), packed[name].size
        if have != -(-count // 8):
            raise UserError(f"mask file: {_short(name)} has {have} bytes for {count} bits")
        if count % 8 and int(packed[name][-1]) >> count % 8:
            raise UserError(f"mask file: {_short(name)} has bits beyond its {count} weights")
    if _digest(shapes, packed) != sha256:
        raise UserError("mask file: the bits do not have the sha256 that the header states")
    return {name: _unpacked(packed[name], shape) for name, shape in shapes.items()}


def _packed(mask: Mapping[str, Tensor]) -> dict[str, Bytes]:
    bits = {name: kept.detach().cpu().reshape(-1).numpy() for name, kept in mask.items()}
    return {name: numpy.packbits(flat, bitorder="little") for name, flat in bits.items()}


def _unpacked(packed: Bytes, shape: Shape) -> Tensor:
    bits = numpy.unpackbits(packed, count=math.prod(shape), bitorder="little")
    return torch.from_numpy(bits).bool().view(shape)


def _digest(shapes: Mapping[str, Shape], packed: Mapping[str, Bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(shapes):
        # one line of JSON, then as many bytes as its shape says: no two masks read the same
        whole.update(json.dumps([name, shapes[name]]).encode() + b"\n")
        whole.update(packed[name].tobytes())
    return whole.hexdigest()


def _tensors(data: bytes) -> dict[str, Bytes]:
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise UserError(f"mask file: not safetensors: {_short(str(error))}") from error
    for name, entry in entries:
        if entry["dtype"] != "U8" or len(entry["shape"]) != 1:
            kind = f"{entry['dtype']} of {len(entry['shape'])} dimensions"
            raise UserError(f"mask file: {_short(name)} is {kind}, needed packed bits (U8 of 1)")
    return {name: numpy.frombuffer(entry["data"], numpy.uint8) for name, entry in entries}


def _about(data: bytes) -> tuple[dict[str, Shape], str]:
    """The shapes and the sha256 that the header of a valid safetensors file states."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        about = json.loads(header["__metadata__"]["mask"])
        shapes = {name: tuple(shape) for name, shape in about["shapes"].items()}
        sha256 = about["sha256"]
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UserError("mask file: no shapes and sha256 in its header's metadata") from error
    for name, shape in shapes.items():
        if not all(type(side) is int and side >= 0 for side in shape):
            raise UserError(f"mask file: {_short(name)} has the shape {_short(shape)}")
    return shapes, sha256


def _short(echo: object) -> str:
    return repr(echo)[:80]

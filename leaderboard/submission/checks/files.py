"""What lies beside a record, read as data and held against it: its mask and its curve."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.store.atomic import LIMIT, read
from paibench.benchmark.store.checksummed_json import Corrupt, without_duplicates
from paibench.benchmark.store.records import check_hash
from paibench.leaderboard.submission.findings import Fault, shown
from paibench.leaderboard.submission.open import owns
from paibench.leaderboard.submission.scan import MASK_LIMIT

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


# beside: What lies beside a record, read as data and held against it: its mask and its curve.


class Point(NamedTuple):
    """One epoch of a curve."""

    epoch: int
    train_loss: float
    loss: float | None
    accuracy: float


def mask(record: Record, files: Mapping[str, Path]) -> Iterator[Fault]:
    """The digest and the counts of the mask, computed again from its file."""
    if record.mask_file is None:
        if record.mask_sha256 is not None or record.kept is not None:
            yield Fault("mask-file", "mask_file: the name of the mask", "none")
        return
    try:
        found = parse(_read(record.mask_file, files, MASK_LIMIT))
    except Corrupt as error:
        yield Fault("mask-file", shown(record.mask_file), str(error))
        return
    if found.sha256 != record.mask_sha256:
        yield Fault("mask-sha256", shown(record.mask_sha256), found.sha256)
        return  # it is the mask of another run
    sizes = dict(zip(record.layer_names, record.layer_sizes, strict=True))
    if found.sizes != sizes:
        yield Fault("mask-layers", shown(sizes), shown(found.sizes))
        return
    for name, kept in zip(record.layer_names, record.layer_kept, strict=True):
        if found.kept[name] != kept:
            yield Fault("mask-kept", f"{shown(name)}: {kept} kept", f"{found.kept[name]}")


def curve(record: Record, spec: Spec, files: Mapping[str, Path]) -> Iterator[Fault]:
    """The curve ends where the record does, has its epochs, and its best is the best."""
    if record.curve_file is None or record.status != "done":
        return  # that a done run has one is a matter of the schema
    try:
        points = list(_points(_read(record.curve_file, files, LIMIT)))
    except Corrupt as error:
        yield Fault("curve", shown(record.curve_file), str(error))
        return
    yield from _epochs(record, spec, points)
    last = points[-1]
    for name in ("accuracy", "loss", "train_loss"):
        if getattr(record, name) != getattr(last, name):
            yield Fault("curve", f"{name} {getattr(last, name)}", shown(getattr(record, name)))
            return  # it is the curve of another record
    best = max(points, key=lambda point: (point.accuracy, -point.epoch))
    if (record.accuracy_best, record.best_epoch) != (best.accuracy, best.epoch):
        came = f"{record.accuracy_best} at epoch {record.best_epoch}"
        yield Fault("best", f"{best.accuracy} at epoch {best.epoch}", shown(came))


def _epochs(record: Record, spec: Spec, points: Sequence[Point]) -> Iterator[Fault]:
    """A point for each epoch that was trained, the last of which is the recipe's last."""
    had = [point.epoch for point in points]
    last = recipe_of(spec.recipe).epochs if owns(spec, "recipe") else had[-1]
    trained = record.epochs_trained or 0.0
    if trained > last:
        yield Fault("curve", f"at most {last} epochs", shown(trained))
    # a ticket that enters the schedule within an epoch has a point for it
    elif len(had) != max(1, math.ceil(trained - 1e-9)):
        yield Fault("curve", f"points of {trained} epochs", f"{len(had)} points")
    elif had != list(range(last - len(had) + 1, last + 1)):
        yield Fault("curve", f"epochs up to {last}, one after the other", shown(had))


def _read(name: str, files: Mapping[str, Path], limit: int) -> bytes:
    """The bytes of a file that a record names. Raises Corrupt where they are not its own."""
    if name not in files:
        raise Corrupt("it is not there")
    try:
        data = read(files[name], limit)
    except OSError as error:
        raise Corrupt(f"it cannot be read: {error.strerror}") from None
    check_hash(name, data)
    return data


def _points(data: bytes) -> Iterator[Point]:
    try:
        plain = json.loads(data.decode(), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError):  # Corrupt is one
        raise Corrupt("it is no JSON") from None
    if not isinstance(plain, list) or not plain:
        raise Corrupt("it is no list of points")
    for each in plain:
        if not (isinstance(each, dict) and each.keys() == set(Point._fields)):
            raise Corrupt("a point has other fields than epoch, losses and accuracy")
        if not _is_sound(Point(**each)):
            raise Corrupt("a point has numbers that no epoch gives")
        yield Point(**each)


def _is_sound(point: Point) -> bool:
    def number(value: Any, most: float = 1e300) -> bool:
        return type(value) in (int, float) and 0 <= value <= most

    losses = number(point.train_loss) and (point.loss is None or number(point.loss))
    return type(point.epoch) is int and point.epoch > 0 and losses and number(point.accuracy, 1.0)

"""Check the mask and the curve of a record: read them as data and compare them with it."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from paibench.benchmark.record import CurvePoint, Record
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.store.atomic import LIMIT, read
from paibench.benchmark.store.checksummed_json import Corrupt, without_duplicates
from paibench.benchmark.store.records import check_hash
from paibench.leaderboard.submission.findings import Fault, shorten
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


def check_mask(record: Record, files: Mapping[str, Path]) -> Iterator[Fault]:
    """Compare the digest and the counts of the mask file with the record."""
    if record.mask_file is None:
        if record.mask_sha256 is not None or record.kept is not None:
            yield Fault("mask-file", "mask_file: the name of the mask", "none")
        return
    try:
        mask = parse(_read(record.mask_file, files, MASK_LIMIT))
    except Corrupt as error:
        yield Fault("mask-file", shorten(record.mask_file), str(error))
        return
    if mask.sha256 != record.mask_sha256:
        yield Fault("mask-sha256", shorten(record.mask_sha256), mask.sha256)
        return  # it is the mask of another run, so its counts say nothing
    sizes = dict(zip(record.layer_names, record.layer_sizes, strict=True))
    if mask.sizes != sizes:
        yield Fault("mask-layers", shorten(sizes), shorten(mask.sizes))
        return
    for name, kept in zip(record.layer_names, record.layer_kept, strict=True):
        if mask.kept[name] != kept:
            yield Fault("mask-kept", f"{shorten(name)}: {kept} kept", f"{mask.kept[name]}")


def check_curve(record: Record, spec: Spec, files: Mapping[str, Path]) -> Iterator[Fault]:
    """Compare the epochs, the last point and the best point of the curve with the record."""
    if record.curve_file is None or record.status != "done":
        return  # the check of the schema reports a finished run without a curve
    try:
        points = list(_points(_read(record.curve_file, files, LIMIT)))
    except Corrupt as error:
        yield Fault("curve", shorten(record.curve_file), str(error))
        return
    yield from _epochs(record, spec, points)
    last = points[-1]
    results = {
        "accuracy": (last["accuracy"], record.accuracy),
        "loss": (last["loss"], record.loss),
        "train_loss": (last["train_loss"], record.train_loss),
    }
    for name, (in_curve, in_record) in results.items():
        if in_curve != in_record:
            yield Fault("curve", f"{name} {in_curve}", shorten(in_record))
            return  # it is the curve of another record, so its best point says nothing
    best = max(points, key=lambda point: (point["accuracy"], -point["epoch"]))
    if (record.accuracy_best, record.best_epoch) != (best["accuracy"], best["epoch"]):
        stated = f"{record.accuracy_best} at epoch {record.best_epoch}"
        expected = f"{best['accuracy']} at epoch {best['epoch']}"
        yield Fault("best", expected, shorten(stated))


def _epochs(record: Record, spec: Spec, points: Sequence[CurvePoint]) -> Iterator[Fault]:
    """The curve has a point for each trained epoch, and ends at the last epoch of the recipe."""
    epochs = [point["epoch"] for point in points]
    # The epochs of a third party's recipe are not known without running its code.
    last = recipe_of(spec.recipe).epochs if owns(spec, "recipe") else epochs[-1]
    trained = record.epochs_trained or 0.0
    if trained > last:
        yield Fault("curve", f"at most {last} epochs", shorten(trained))
    # A rewound ticket may enter the schedule within an epoch, and has a point for the rest of it.
    elif len(epochs) != max(1, math.ceil(trained - 1e-9)):
        yield Fault("curve", f"points of {trained} epochs", f"{len(epochs)} points")
    elif epochs != list(range(last - len(epochs) + 1, last + 1)):
        yield Fault("curve", f"consecutive epochs up to {last}", shorten(epochs))


def _read(name: str, files: Mapping[str, Path], limit: int) -> bytes:
    """Return the bytes of a file that a record names. Raises Corrupt if its hash is another."""
    if name not in files:
        raise Corrupt("it does not exist")
    try:
        data = read(files[name], limit)
    except OSError as error:
        raise Corrupt(f"it cannot be read: {error.strerror}") from None
    check_hash(name, data)
    return data


def _points(data: bytes) -> Iterator[CurvePoint]:
    try:
        plain = json.loads(data.decode(), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError):  # Corrupt is a ValueError
        raise Corrupt("it is not JSON") from None
    if not isinstance(plain, list) or not plain:
        raise Corrupt("it is not a list of points")
    for point in plain:
        if not (isinstance(point, dict) and point.keys() == CurvePoint.__annotations__.keys()):
            raise Corrupt("a point has other fields than epoch, losses and accuracy")
        if not _is_possible(point):
            raise Corrupt("a point has numbers that no epoch gives")
        yield cast(CurvePoint, point)


def _is_possible(point: Mapping[str, Any]) -> bool:
    def number(value: Any, most: float = 1e300) -> bool:
        return type(value) in (int, float) and 0 <= value <= most

    losses = number(point["train_loss"]) and (point["loss"] is None or number(point["loss"]))
    whole = type(point["epoch"]) is int and point["epoch"] > 0
    return whole and losses and number(point["accuracy"], 1.0)

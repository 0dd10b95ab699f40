"""Check the files beside a record: read them as data and compare them with it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from paibench.benchmark.record import CurvePoint, Record
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.store.atomic import LIMIT, read
from paibench.benchmark.store.checksummed_json import Corrupt, without_duplicates
from paibench.benchmark.store.records import check_hash
from paibench.leaderboard.submission.findings import Fault, shorten
from paibench.leaderboard.submission.open import owns
from paibench.leaderboard.submission.scan import MASK_LIMIT
from paibench.methods.core.mask_bits import BadMaskFile, decode


def check_mask(record: Record, files: Mapping[str, Path]) -> Iterator[Fault]:
    """Compare the digest and the counts of the mask file with the record."""
    if record.mask_file is None:
        if record.mask_sha256 is not None or record.kept is not None:
            yield Fault("mask-file", "mask_file: the name of the mask", "none")
        return
    try:
        mask = decode(_read(record.mask_file, files, MASK_LIMIT))
    except (Corrupt, BadMaskFile) as error:
        yield Fault("mask-file", shorten(record.mask_file), str(error))
        return
    if mask.sha256 != record.mask_sha256:
        yield Fault("mask-sha256", shorten(record.mask_sha256), mask.sha256)
        return  # it is the mask of another run, so its counts say nothing
    sizes = dict(zip(record.layer_names, record.layer_sizes, strict=True))
    if mask.sizes != sizes:
        yield Fault("mask-layers", shorten(sizes), shorten(mask.sizes))
        return
    for name, kept_count in zip(record.layer_names, record.layer_kept, strict=True):
        if mask.kept[name] != kept_count:
            yield Fault("mask-kept", f"{shorten(name)}: {kept_count} kept", f"{mask.kept[name]}")


def check_predictions(record: Record, files: Mapping[str, Path]) -> Iterator[Fault]:
    """Compare the number of correct predictions with the accuracy of the record."""
    if record.accuracy is None or not record.test_examples:
        return  # the checks of schema and range report a finished run without them
    if record.predictions_file is None:
        # the first records of this protocol have none
        yield Fault("predictions", "predictions_file: a name", "nothing", "warning")
        return
    size = math.ceil(record.test_examples / 8)
    try:
        data = _read(record.predictions_file, files, LIMIT)
    except Corrupt as error:
        yield Fault("predictions", shorten(record.predictions_file), str(error))
        return
    correct = int.from_bytes(data, "big")
    unused = 8 * size - record.test_examples
    if len(data) != size:
        yield Fault("predictions", f"{size} bytes", f"{len(data)} bytes")
    elif correct & ((1 << unused) - 1):
        yield Fault("predictions", f"zeros in the last {unused} bits", "ones")
    elif correct.bit_count() / record.test_examples != record.accuracy:
        stated = f"{record.accuracy} of {record.test_examples}"
        yield Fault("predictions", stated, f"{correct.bit_count()} correct")


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

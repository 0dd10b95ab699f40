"""Check one record on its own: outcome, dates, ranges, counts and text."""

import math
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.submission.findings import Fault, shorten

_DONE = (
    *("data_fingerprint", "data_name", "evaluated_on", "train_examples", "test_examples"),
    *("prunable", "kept", "density", "multiply_adds_dense", "multiply_adds_sparse"),
    *("at_initialization", "accuracy_best", "best_epoch", "accuracy_untrained", "loss"),
    *("train_loss", "epochs_trained", "search_forward", "search_backward", "search_epochs"),
    *("search_seconds", "train_seconds", "evaluation_seconds", "mask_file", "curve_file"),
    *("mask_sha256", "initial_sha256", "trained_sha256"),
)
"""The optional fields that every finished run has."""
_COUNTED = ("accuracy", "accuracy_best", "accuracy_untrained")
_CLOCK_ERROR = timedelta(hours=1)
_ROUNDED_SECONDS = 1.0  # start and end are full seconds
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)  # before the first version of paibench
_MARKUP = set("<>`")
_FORMULA = ("=", "+", "-", "@")
_MAX_LENGTH = {
    "reason": 1000,
    "environment.plugin_origin": 500,
    "environment.other_plugins": 500,
}


def check_record(record: Record, spec: Spec, now: datetime) -> Iterator[Fault]:
    """Find values that no run gives, or that contradict each other."""
    if record.protocol != PROTOCOL:
        yield Fault("protocol", f"protocol {PROTOCOL}", shorten(record.protocol))
    yield from _outcome(record)
    yield from _dates(record, now)
    yield from _ranges(record)
    yield from _counts(record, spec)
    accuracy, best = record.accuracy, record.accuracy_best
    if accuracy is not None and best is not None and best < accuracy:
        yield Fault("best", f"accuracy_best: at least {accuracy}", shorten(best))
    yield from _texts(record)


def _outcome(record: Record) -> Iterator[Fault]:
    """A finished run has all results of training; a diverged run has no accuracy."""
    if record.status not in ("done", "diverged"):
        yield Fault("schema", "a run that is done or diverged", record.status)
    elif record.status == "diverged" and record.accuracy is not None:
        yield Fault("schema", "no accuracy in a diverged run", shorten(record.accuracy))
    elif record.status == "done":
        for name in _DONE:
            if getattr(record, name) is None:
                yield Fault("schema", f"{name}: a value in a run that is done", "nothing")


def _dates(record: Record, now: datetime) -> Iterator[Fault]:
    """Dates are in UTC and in order. Clocks differ, so an hour in the future is accepted."""
    times = {}
    for name in ("started", "finished"):
        text = getattr(record.environment, name)
        try:
            times[name] = datetime.fromisoformat(text).astimezone(UTC)
            if datetime.fromisoformat(text).tzinfo is None:
                raise ValueError
        except (ValueError, OverflowError):
            yield Fault("date", f"{name}: a time in UTC", shorten(text))
            return
        if times[name] > now + _CLOCK_ERROR:
            yield Fault("date", f"{name}: at most {now:%Y-%m-%dT%H:%M:%SZ}", shorten(text))
        elif times[name] < _FIRST:
            expected = f"{name}: not before {_FIRST:%Y}, as paibench did not exist"
            yield Fault("date", expected, shorten(text))
    if times["finished"] < times["started"]:
        yield Fault("date", "an end after the start", shorten(record.environment.finished))
        return
    elapsed = (times["finished"] - times["started"]).total_seconds() + _ROUNDED_SECONDS
    needed = (record.train_seconds or 0.0) + (record.evaluation_seconds or 0.0)
    # A run that was stopped and continued has the training of both attempts, but one start.
    if needed > elapsed:
        expected = f"at most {elapsed:.3g} s of training and evaluation from start to end"
        yield Fault("time", expected, f"{needed:.3g} s", "warning")


def _ranges(record: Record) -> Iterator[Fault]:
    """Numbers that the schema allows but that no run gives."""
    examples = record.test_examples or 0
    for name in _COUNTED:
        value = getattr(record, name)
        # An accuracy that is not a count over the test set was not measured on it.
        correct = 0.0 if value is None else value * examples
        if examples and abs(correct - round(correct)) > 1e-6:
            yield Fault("range", f"{name}: a count over {examples} examples", shorten(value))
    if record.environment.threads < 1:
        yield Fault("range", "threads: at least 1", shorten(record.environment.threads))
    if record.status == "done" and 0 in (record.train_examples, record.test_examples):
        yield Fault("range", "train_examples, test_examples: at least 1", "0")
    forward, train = record.search_forward, record.train_examples
    if forward is not None and train and record.search_epochs is not None:
        epochs = forward / train
        if not math.isclose(record.search_epochs, epochs, rel_tol=1e-12):
            yield Fault("range", f"search_epochs: {epochs}", shorten(record.search_epochs))
    effective, dense = record.density_effective, record.multiply_adds_dense
    if effective is not None and record.density is not None and effective > record.density:
        yield Fault("range", "density_effective: at most density", shorten(effective))
    sparse = record.multiply_adds_sparse
    # Layers are summed as floats, in an order that may differ.
    if sparse is not None and dense is not None and sparse > dense * (1 + 1e-9):
        yield Fault("range", f"multiply_adds_sparse: at most {dense}", shorten(sparse))


def _counts(record: Record, spec: Spec) -> Iterator[Fault]:
    """Exactly `round(density * N)` weights are kept, in layers with different names.

    Only a mask of whole channels may keep fewer.
    """
    if len(set(record.layer_names)) < len(record.layer_names):
        yield Fault("count", "layers with different names", "a name that occurs twice")
    if record.prunable is None or record.kept is None:
        return
    if not record.layer_names:
        yield Fault("count", "layer_names, layer_sizes and layer_kept", "no layers")
    # The contract of every method: exactly this number, so that methods are compared fairly.
    due = round(spec.density * record.prunable)
    whole = record.channels is not None
    if record.kept > due or (record.kept < due and not whole) or record.kept == 0:
        most = "at most " if whole else ""
        expected = f"{most}{due or 'at least 1'} of {record.prunable} kept"
        yield Fault("count", expected, shorten(record.kept))
    layers = zip(record.layer_names, record.layer_kept, strict=True)
    empty = [name for name, count in layers if not count]
    if record.collapsed != empty:
        yield Fault("count", f"collapsed: {shorten(empty)}", shorten(record.collapsed))


def _texts(record: Record) -> Iterator[Fault]:
    """Text that a terminal, a page or a spreadsheet could take for anything but text."""
    for path, text in _strings("", record.plain()):
        limit = _MAX_LENGTH.get(path, 200)
        if len(text) > limit:
            yield Fault("text", f"{path}: at most {limit} characters", f"{len(text)}")
        elif any(unicodedata.category(char)[0] == "C" for char in text) or not text.isprintable():
            yield Fault("text", f"{path}: printable characters", ascii(text)[:80])
        # Escaping protects the site; this protects whoever opens the records elsewhere.
        elif _MARKUP & set(text) or text.startswith(_FORMULA) or "javascript:" in text.lower():
            yield Fault("text", f"{path}: neither markup nor a formula", shorten(text))


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every text in plain values, with the path of names that leads to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(f"{path}.{name[:40]}".lstrip("."), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(path, inner)

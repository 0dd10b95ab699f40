"""What one record says, held against itself: protocol, dates, ranges, counts, text."""

import math
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.submission.findings import Fault, shown

_DONE = (
    *("data_fingerprint", "data_name", "evaluated_on", "train_examples", "test_examples"),
    *("prunable", "kept", "density", "multiply_adds_dense", "multiply_adds_sparse"),
    *("at_initialization", "accuracy_best", "best_epoch", "accuracy_untrained", "loss"),
    *("train_loss", "epochs_trained", "search_forward", "search_backward", "search_epochs"),
    *("search_seconds", "train_seconds", "evaluation_seconds", "mask_file", "curve_file"),
    *("mask_sha256", "initial_sha256", "trained_sha256"),
)
_COUNTED = ("accuracy", "accuracy_best", "accuracy_untrained")
_CLOCKS_DIFFER = timedelta(hours=1)
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_MARKUP = set("<>`")
_FORMULA = ("=", "+", "-", "@")
_LONG = {"reason": 1000, "environment.plugin_origin": 500, "environment.other_plugins": 500}


def protocol(record: Record) -> Iterator[Fault]:
    if record.protocol != PROTOCOL:
        yield Fault("protocol", f"protocol {PROTOCOL}", shown(record.protocol))


def outcome(record: Record) -> Iterator[Fault]:
    """A done run has all that training gives, and one that diverged has no accuracy."""
    if record.status not in ("done", "diverged"):
        yield Fault("schema", "a run that is done or diverged", record.status)
    elif record.status == "diverged" and record.accuracy is not None:
        yield Fault("schema", "no accuracy of a run that diverged", shown(record.accuracy))
    elif record.status == "done":
        for name in _DONE:
            if getattr(record, name) is None:
                yield Fault("schema", f"{name}: a value in a run that is done", "nothing")


def dates(record: Record, now: datetime) -> Iterator[Fault]:
    """`now` is the time of the check; an hour is forgiven, since clocks differ."""
    times = {}
    for name in ("started", "finished"):
        text = getattr(record.environment, name)
        try:
            times[name] = datetime.fromisoformat(text).astimezone(UTC)
            if datetime.fromisoformat(text).tzinfo is None:
                raise ValueError
        except (ValueError, OverflowError):
            yield Fault("date", f"{name}: a time in UTC", shown(text))
            return
        if times[name] > now + _CLOCKS_DIFFER:
            yield Fault("date", f"{name}: at most {now:%Y-%m-%dT%H:%M:%SZ}", shown(text))
        elif times[name] < _FIRST:
            yield Fault("date", f"{name}: not before paibench was there", shown(text))
    if times["finished"] < times["started"]:
        yield Fault("date", "an end after the start", shown(record.environment.finished))


def ranges(record: Record) -> Iterator[Fault]:
    """Numbers that each may be, and that no run gives."""
    examples = record.test_examples or 0
    for name in _COUNTED:
        value = getattr(record, name)
        right = 0.0 if value is None else value * examples
        if examples and abs(right - round(right)) > 1e-6:
            yield Fault("range", f"{name}: a count over {examples} examples", shown(value))
    if record.environment.threads < 1:
        yield Fault("range", "threads: at least 1", shown(record.environment.threads))
    if record.status == "done" and 0 in (record.train_examples, record.test_examples):
        yield Fault("range", "train_examples, test_examples: at least 1", "0")
    forward, train = record.search_forward, record.train_examples
    if forward is not None and train and record.search_epochs is not None:
        epochs = forward / train
        if not math.isclose(record.search_epochs, epochs, rel_tol=1e-12):
            yield Fault("range", f"search_epochs: {epochs}", shown(record.search_epochs))
    reached, dense = record.density_effective, record.multiply_adds_dense
    if None not in (reached, record.density) and reached > record.density:  # type: ignore[operator]
        yield Fault("range", "density_effective: at most density", shown(reached))
    sparse = record.multiply_adds_sparse
    if None not in (sparse, dense) and sparse > dense * (1 + 1e-9):  # type: ignore[operator]
        yield Fault("range", f"multiply_adds_sparse: at most {dense}", shown(sparse))


def counts(record: Record, spec: Spec) -> Iterator[Fault]:
    """Exactly `round(density * N)` kept, in layers that each have their own name."""
    if len(set(record.layer_names)) < len(record.layer_names):
        yield Fault("count", "layers with names of their own", "a name that stands twice")
    if record.prunable is None or record.kept is None:
        return
    if not record.layer_names:
        yield Fault("count", "layer_names, layer_sizes and layer_kept", "no layers")
    due = round(spec.density * record.prunable)
    if record.kept != due or due == 0:
        yield Fault("count", f"{due or 'at least 1'} of {record.prunable} kept", shown(record.kept))
    empty = [n for n, kept in zip(record.layer_names, record.layer_kept, strict=True) if not kept]
    if record.collapsed != empty:
        yield Fault("count", f"collapsed: {shown(empty)}", shown(record.collapsed))


def best(record: Record) -> Iterator[Fault]:
    accuracy, highest = record.accuracy, record.accuracy_best
    if accuracy is not None and highest is not None and highest < accuracy:
        yield Fault("best", f"accuracy_best: at least {accuracy}", shown(highest))


def texts(record: Record) -> Iterator[Fault]:
    """No text that could be taken for anything but text, wherever it is shown."""
    for place, text in _strings("", record.plain()):
        limit = _LONG.get(place, 200)
        if len(text) > limit:
            yield Fault("text", f"{place}: at most {limit} characters", f"{len(text)}")
        elif any(unicodedata.category(mark)[0] == "C" for mark in text) or not text.isprintable():
            yield Fault("text", f"{place}: printable characters", ascii(text)[:80])
        elif _MARKUP & set(text) or text.startswith(_FORMULA) or "javascript:" in text.lower():
            yield Fault("text", f"{place}: neither markup nor a formula", shown(text))


def _strings(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in plain values with the names that lead to it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(f"{place}.{name[:40]}".lstrip("."), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(place, inner)

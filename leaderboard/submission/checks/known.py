"""Compare a record with what is known of our own data sets, models and versions."""

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from paibench.benchmark.data.constants import COUNTS
from paibench.benchmark.record import Record
from paibench.benchmark.spec import DEFAULTS, Spec
from paibench.leaderboard.submission.findings import Fault, Severity, shorten
from paibench.leaderboard.submission.open import owns

FILE = Path(__file__).with_name("known.json")
"""Digests of data sets and of initial weights; `python tests/golden/known.py` makes it."""

INPUTS: Mapping[str, tuple[tuple[int, int, int], int]] = {
    "digits": ((1, 8, 8), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion_mnist": ((1, 28, 28), 10),
    "kmnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "svhn": ((3, 32, 32), 10),
    "tiny_imagenet": ((3, 64, 64), 200),
    "imagenet": ((3, 224, 224), 1000),
}
"""The shape of an input (channels, height, width) and the number of classes, by data set."""


def check_known(record: Record, spec: Spec) -> Iterator[Fault]:
    """Find other data, other numbers of examples, and other initial weights than those known."""
    if owns(spec, "dataset") and spec.dataset.name in COUNTS:
        yield from _data(record, spec)
        if owns(spec, "model") and spec.init == DEFAULTS["init"] and not spec.model.options:
            yield from _initial_weights(record, spec)


def network(model: str, dataset: str) -> str:
    """Return the name of what the initial weights depend on, besides the seed."""
    shape, classes = INPUTS[dataset]
    return f"{model} {'x'.join(map(str, shape))} {classes}"


@cache  # every record asks
def _facts() -> Any:
    return json.loads(FILE.read_text())


def _data(record: Record, spec: Spec) -> Iterator[Fault]:
    name, options = spec.dataset.name, spec.dataset.options
    # The fingerprint is that of the whole set, of which options choose a part.
    fingerprint = _facts()["data"].get(name, record.data_fingerprint)
    if record.data_fingerprint not in (None, fingerprint):
        actual = shorten(record.data_fingerprint)
        yield Fault("data", f"the published {name}: {shorten(fingerprint)}", actual)
    train, test = COUNTS[name]
    examples, fraction = options.get("examples"), options.get("validation", 0.0)
    if isinstance(examples, int):
        name, train = f"{name}-{examples}", examples
    if isinstance(fraction, float) and math.isfinite(fraction) and fraction:
        name = f"{name}-validation-{fraction:g}"
        test = round(fraction * train)
        train -= test
    expected = {"data_name": name, "train_examples": train, "test_examples": test}
    for field, value in expected.items():
        if getattr(record, field) not in (None, value):
            yield Fault("data", f"{field}: {value}", shorten(getattr(record, field)))


def _initial_weights(record: Record, spec: Spec) -> Iterator[Fault]:
    """Machines of different kinds may draw different last bits, which is only a warning."""
    digests = _facts()["initial"].get(network(spec.model.name, spec.dataset.name), ())
    if record.initial_sha256 is None or spec.seed >= len(digests):
        return
    expected = digests[spec.seed]
    if record.initial_sha256 != expected:
        pinned_here = record.environment.device.endswith("(x86_64)")
        severity: Severity = "error" if pinned_here else "warning"
        expected = f"those of {spec.model} with seed {spec.seed}: {expected[:16]}"
        yield Fault("initial", expected, shorten(record.initial_sha256), severity)

"""What many tests make: specs, records, and methods that are installed for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.methods.core import registry

PLUGINS = Path(__file__).parent / "plugins"

_SPEC = {
    "dataset": "digits",
    "model": "lenet-300-100",
    "recipe": "smoke",
    "method": "random",
    "density": 0.1,
}
_LAYERS = {"fc1.weight": 19_200, "fc2.weight": 30_000, "fc3.weight": 1_000}
_ENVIRONMENT = {
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:01:00+00:00",
    "host": "node",
    "device": "cpu",
    "threads": 1,
    "paibench": "0.1.0",
    "python": "3.11.0",
    "torch": "2.10.0",
    "plugin": "paibench",
    "plugin_version": "0.1.0",
}
SWEEP = """
[product]
dataset = "digits"
model = "lenet-300-100"
recipe = "smoke"
method = "random"
density = 0.5
"""
"""The file of a sweep of one run, for tests of the command line."""


def spec_of(method: Any = "random", **fields: Any) -> Spec:
    """Return the spec of a run of two short epochs; the method need not be installed yet."""
    return Spec.model_validate(_SPEC | fields | {"method": method})


def make_record(**fields: Any) -> Record:
    """Return a valid record, changed by fields of its spec, of itself and of `environment`."""
    asked = {name: fields.pop(name) for name in Spec.model_fields if name in fields}
    spec = Spec.model_validate(_SPEC | {"recipe": "lite", "method": "snip"} | asked)
    kept = _kept_per_layer(spec.density)
    total = sum(_LAYERS.values())
    plain = {
        "schema": 1,
        "key": spec.key,
        "spec": spec.canonical,
        "status": "done",
        "data_fingerprint": "f" * 64,
        "data_name": "digits",
        "evaluated_on": "test",
        "train_examples": 1437,
        "test_examples": 360,
        "prunable": total,
        "kept": sum(kept),
        "density": sum(kept) / total,
        "density_effective": sum(kept) / total,
        "layer_names": list(_LAYERS),
        "layer_sizes": list(_LAYERS.values()),
        "layer_kept": kept,
        "accuracy": 0.9,
        "accuracy_untrained": 0.1,
        "search_epochs": 1.0,
    }
    environment = _ENVIRONMENT | fields.pop("environment", {})
    return Record.read(plain | {"environment": environment} | fields)


def _kept_per_layer(density: float) -> list[int]:
    """Return kept counts that sum to exactly round(density * total), spread evenly."""
    missing = round(density * sum(_LAYERS.values()))
    kept = [int(density * size) for size in _LAYERS.values()]
    for index, size in enumerate(_LAYERS.values()):
        kept[index] += min(size - kept[index], missing - sum(kept))
    return kept


def publish(store: Store, *records: Record) -> None:
    """Publish records, each as the result of a new attempt."""
    for record in records:
        store.publish_record(record.key, record.plain(), new_attempt_id())


@contextmanager
def installed(plugin: str) -> Iterator[pytest.MonkeyPatch]:
    """Install the methods in a folder of `plugins`, in this process and in its children."""
    folder = str(PLUGINS / plugin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", folder)
        patch.syspath_prepend(folder)
        registry._entries.cache_clear()
        yield patch
    registry._entries.cache_clear()

"""What many tests need: valid records, stores that hold them, and the command line."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests run side by side: with a thread per core each, processes spend most of their time waiting
# for each other's threads. Torch reads this when it is imported, here and in child processes.
os.environ["OMP_NUM_THREADS"] = "1"

from paibench import cli
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.methods.core import registry

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]
Said = tuple[int, str, str]
Say = Callable[..., Said]

_SPEC = {
    "dataset": "digits",
    "model": "lenet-300-100",
    "recipe": "lite",
    "method": "snip",
    "density": 0.1,
    "seed": 0,
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


def _kept_per_layer(density: float) -> list[int]:
    """Exactly round(density * total) weights, spread evenly, the rest from the first layer on."""
    left = round(density * sum(_LAYERS.values()))
    kept = [int(density * size) for size in _LAYERS.values()]
    for place, size in enumerate(_LAYERS.values()):
        more = min(size - kept[place], left - sum(kept))
        kept[place] += more
    return kept


def make_record(**fields: Any) -> Record:
    """A valid record; fields of the spec, of the record and of `environment` as wanted."""
    asked = {name: fields.pop(name) for name in Spec.model_fields if name in fields}
    spec = Spec.model_validate(_SPEC | asked)
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


@pytest.fixture
def record_factory() -> RecordFactory:
    """Makes a valid record: `record_factory(method="random", density=0.1, accuracy=0.8)`."""
    return make_record


@pytest.fixture
def store_factory(tmp_path: Path) -> StoreFactory:
    """Makes a store with these records in it, at tmp_path / "store"."""

    def make(records: Iterable[Record]) -> Path:
        store = Store.open(tmp_path / "store")
        for record in records:
            store.publish_record(record.key, record.plain(), store.new_attempt(record.key))
        return store.root

    return make


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command line in this process: its exit status, standard output and error."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["paibench", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        code = caught.value.code
        if isinstance(code, str):  # as the interpreter does at its end
            return 1, out, f"{err}{code}\n"
        return int(code or 0), out, err

    return run


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stranger's methods are installed, here and in workers."""
    folder = str(Path(__file__).parent / "plugins" / "hostile")
    monkeypatch.setenv("PYTHONPATH", folder)
    monkeypatch.syspath_prepend(folder)
    registry._entries.cache_clear()
    yield
    registry._entries.cache_clear()

"""A small store from real runs, with masks and its sweep, and copies of it to forge."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.sweep import expand

Edit = Callable[..., None]

SWEEP = {
    "name": "small",
    "product": {
        "dataset": "digits",
        "model": "lenet-300-100",
        "recipe": "smoke",
        "method": ["random", "snip", "magnitude"],
        "density": [0.5, 0.1],
        "seed": [0, 1],
    },
    "include": [{"method": "dense", "density": 1.0}],
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 14 runs on the digits, as `paibench export --masks` publishes it."""
    work = tmp_path_factory.mktemp("submission")
    store = Store.open(work / "work")
    sweep = expand(SWEEP)
    store.publish_sweep(sweep.id, sweep.plain())
    for spec in sweep.specs:
        attempt(spec, store)
    leave = shutil.ignore_patterns("attempts", "checkpoints", "stages", "claim*")
    shutil.copytree(store.root, work / "made", ignore=leave)
    return work / "made"


@pytest.fixture
def submission(made: Path, tmp_path: Path) -> Path:
    """A copy of that store, at tmp_path / "results" / "small"."""
    shutil.copytree(made, tmp_path / "results" / "small")
    return tmp_path / "results" / "small"


@pytest.fixture(scope="session")
def edit() -> Edit:
    """A function that changes fields of a record, and its checksum with them.

    `environment__host` is the host of its environment.
    """

    def change(root: Path, key: str, /, **fields: Any) -> None:
        path = Store.read(root).record_path(key)
        plain = decode(path.read_bytes())
        for name, value in fields.items():
            inner, _, last = name.rpartition("__")
            (plain[inner] if inner else plain)[last] = value
        path.unlink()
        path.write_bytes(encode(plain))

    return change

"""Calls of the real command line against a real cluster, as from a terminal."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import Cluster, clean_environment

from paibench.benchmark.execution.pool import Pool
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import decode
from paibench.benchmark.store.store import Store

ROOT = Path(__file__).parents[3]
SMALL = {"memory": "1500M", "time": 20, "cpus": 4, "warning_seconds": 30}
DIGITS = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}


@dataclass(frozen=True)
class Terminal:
    """A folder with a sweep, a profile and a store, in which commands are run."""

    folder: Path
    cluster: Cluster
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store.read(self.folder / "store")

    @property
    def specs(self) -> tuple[Spec, ...]:
        """The requested runs according to the store: this process need not know their methods."""
        asked = [decode(read(path)) for path in self.store.root.glob("sweeps/*.json")]
        return tuple(Spec.model_validate(run) for each in asked for run in each["runs"].values())

    def sweep(self, **product: Any) -> None:
        """Write sweep.toml, with missing axes from DIGITS."""
        axes = DIGITS | product
        lines = ["[product]", *(f"{key} = {_toml(value)}" for key, value in axes.items())]
        (self.folder / "sweep.toml").write_text("\n".join(lines) + "\n")

    def profile(self, **keys: Any) -> None:
        """Write profile.toml, with missing keys from SMALL."""
        lines = [f"{key} = {_toml(value)}" for key, value in (SMALL | keys).items()]
        (self.folder / "profile.toml").write_text("\n".join(lines) + "\n")

    def start(self, *options: str, command: str = "submit") -> subprocess.Popen[str]:
        """Start a command in a process."""
        given = ["sweep.toml", "--out", "store", *options]
        given += [] if command == "cancel" else ["--profile", "./profile.toml"]
        return subprocess.Popen(
            [sys.executable, "-m", "paibench", command, *given],
            cwd=self.folder,
            env=clean_environment() | self.cluster.environment | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, command: str = "submit", seconds: float = 300) -> "Answer":
        """Run a command and return its answer."""
        process = self.start(*options, command=command)
        out, err = process.communicate(timeout=seconds)
        return Answer(process.returncode, out, err)

    def submit(self, *options: str) -> dict[str, Any]:
        """Submit and return the JSON output."""
        answer = self.run(*options, "--json")
        assert answer.status == 0, answer
        facts: dict[str, Any] = json.loads(answer.out)
        return facts

    def wait_idle(self, seconds: float = 120) -> None:
        """Wait until no job is left."""
        wait(lambda: not self.queue(), seconds)

    def queue(self, fields: str = "%T") -> list[str]:
        """Return what squeue prints for every job, one line each."""
        return self.cluster.run("squeue", "-h", "-r", "-o", fields).splitlines()

    def attempts(self) -> dict[str, int]:
        """Return the number of attempts at each run."""
        return {spec.key: len(self.store.attempts(spec.key)) for spec in self.specs}


@dataclass(frozen=True)
class Answer:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


def wait(ready: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until `ready()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.1)


def stable(store: Store) -> dict[str, dict[str, Any]]:
    """Return the fields of all records that do not depend on machine and time, by key."""
    return {key: Record.read(store.read_record(key)).stable() for key in store.listing().done}


def local_records(
    folder: Path, specs: tuple[Spec, ...], jobs: int = 2
) -> dict[str, dict[str, Any]]:
    """Return the same fields of the same runs, executed by the pool of this machine."""
    store = Store.open(folder)
    for _ in Pool(store, RunSettings(jobs=jobs)).run(specs):
        pass
    return stable(store)


def copy_of_package(folder: Path) -> None:
    """Copy the package to a folder, to be changed there and found by PYTHONPATH."""
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "paibench", folder / "paibench", ignore=without)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)

"""A sweep on a test cluster, submitted by the real command line and observed from outside."""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import factories
import torch
from cluster import Cluster

from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.checkpoint import Checkpoints
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.names import slurm_job_of
from paibench.benchmark.store.progress import Progress, read_progress
from paibench.benchmark.store.store import Store
from paibench.methods.training.checkpoint import LONGEST_PAUSE

SECONDS = 90.0  # that anything may take at the most
CHECKPOINT_SECONDS = 0.05
MOST_LOST = LONGEST_PAUSE * CHECKPOINT_SECONDS + 1.0
"""Seconds of training that a killed worker costs at the most, with a save that takes a second."""

PROFILE = {
    "memory": "1500M",
    "time": "0:10:00",
    "warning_seconds": 10,
    "checkpoint_seconds": CHECKPOINT_SECONDS,
}


def spec_of(method: Any = "random", **fields: Any) -> Spec:
    """Return a small run."""
    return factories.spec_of(method, **{"density": 0.125} | fields)


LONG = spec_of(recipe={"name": "lite", "epochs": 400})
"""Some six seconds of training."""
HALF = 400 * 23 // 2
"""Steps into it, a longer time than a kill may cost."""
SEARCHING = spec_of({"name": "imp", "rate": 0.5}, recipe={"name": "lite", "epochs": 100})
"""IMP: some five seconds of search in three stages, then training."""
SHORT = spec_of("magnitude")


def stable(store: Store, spec: Spec) -> dict[str, Any]:
    """Return the fields of a record that do not depend on machine and time."""
    return Record.read(store.read_record(spec.key)).stable()


_UNDISTURBED: dict[str, dict[str, Any]] = {}


def undisturbed(spec: Spec) -> dict[str, Any]:
    """Return the record of an undisturbed run in this process; each run is executed once."""
    if spec.key not in _UNDISTURBED:
        with tempfile.TemporaryDirectory() as folder:
            store = Store.open(folder)
            assert attempt(spec, store, RunSettings(threads=1)) == "done"
            _UNDISTURBED[spec.key] = stable(store, spec)
    return _UNDISTURBED[spec.key]


@dataclass(frozen=True)
class ClusterSweep:
    """A sweep of `specs` in `folder`, which holds its file, its profile and its store."""

    cluster: Cluster
    folder: Path
    specs: tuple[Spec, ...]

    @classmethod
    def new(cls, cluster: Cluster, folder: Path, *specs: Spec, **profile: Any) -> "ClusterSweep":
        """Write the files of a sweep; jobs have one core unless the profile says otherwise."""
        lines = _lines(PROFILE | profile)
        (folder / "profile.toml").write_text("".join(lines))
        cells = ["[[include]]\n" + "".join(_lines(spec.canonical)) for spec in specs]
        (folder / "sweep.toml").write_text("".join(cells))
        return cls(cluster, folder, specs)

    @property
    def store(self) -> Store:
        """The store of its runs."""
        return Store.open(self.folder / "store")

    # -- the command line -------------------------------------------------------------------------

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Start `paibench submit`."""
        profile = ["--profile", str(self.folder / "profile.toml")]
        return self._start("submit", *profile, *options, **environment)

    def status(self, **environment: str) -> dict[str, Any]:
        """Return the output of `paibench status`."""
        return json_output(self._start("status", **environment))

    def submit(self, *options: str, **environment: str) -> dict[str, Any]:
        """Return the output of `paibench submit`, which must succeed."""
        return json_output(self.start(*options, **environment))

    def finish(self) -> None:
        """Submit until every run has its record."""
        end = time.monotonic() + SECONDS
        while not self.is_done():
            assert time.monotonic() < end, self.report()
            self.submit()
            self.wait_until(
                lambda: self.is_done() or all("held" in r for _, r in self.jobs().values())
            )

    def _start(self, command: str, *options: str, **environment: str) -> subprocess.Popen[str]:
        files = [str(self.folder / "sweep.toml"), "--out", str(self.folder / "store"), "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "paibench", command, *files, *options],
            env=os.environ | self.cluster.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # -- what is to be seen -----------------------------------------------------------------------

    def is_done(self, *specs: Spec) -> bool:
        """Return whether these runs, or all, have their records."""
        return self.store.listing().done >= {spec.key for spec in specs or self.specs}

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Return state and reason of every job on the cluster, by id."""
        listing = self.cluster.run("squeue", "-h", "-r", "-o", "%i %T %r").splitlines()
        rows = [line.split(maxsplit=2) for line in listing]
        return {number: (state, reason) for number, state, reason in rows}

    def job(self) -> str:
        """Return the id of the only job."""
        (number,) = self.jobs()
        return number

    def attempts(self, spec: Spec) -> list[str]:
        """Return the attempts at a run, in the order of the starts of its job."""
        return sorted(self.store.attempts(spec.key), key=lambda name: slurm_job_of(name) or (0, 0))

    def progress(self, spec: Spec, turn: int = -1) -> Progress:
        """Return the progress of an attempt, by default the last."""
        name = self.attempts(spec)[turn]
        return read_progress(self.store.attempt_folder(spec.key, name))

    def causes(self, spec: Spec) -> list[str]:
        """Return the causes of the failed and interrupted attempts at a run."""
        return [note["cause"] for note in self.store.failures(spec.key)]

    def reason(self, spec: Spec) -> str:
        """Return the reason of the last of them."""
        return str(self.store.failures(spec.key)[-1]["reason"])

    def processes(self, module: str) -> list[int]:
        """Return the processes of its jobs that run a module, without their `srun`."""
        running = {pid: (parent, command) for pid, parent, command in _commands()}
        # A job has the folder in its command, a worker gets it on standard input.
        return [
            pid
            for pid, (parent, command) in running.items()
            if module in command
            and "srun" not in command
            and f"{self.folder}/" in command + running.get(parent, (0, ""))[1]
        ]

    def seconds_since_save(self, spec: Spec) -> float:
        """Return the seconds since the last save of a run."""
        kept = (self.store.run_folder(spec.key) / "checkpoints").rglob("*.pt")
        return time.time() - max(path.stat().st_mtime for path in kept)

    def saved_step(self, spec: Spec) -> int:
        """Return the step of the last save of a training, 0 if there is none."""
        return step_of(self.store.run_folder(spec.key) / "checkpoints" / "train")

    def saved_search_step(self) -> int:
        """Return the step of the last save of a training within the search of its only run."""
        folders = self.store.root.glob("stages/*/*/*/checkpoints")
        return max(map(step_of, folders), default=0)

    # -- waiting ----------------------------------------------------------------------------------

    def wait_until(self, ready: Callable[[], object], seconds: float = SECONDS) -> float:
        """Wait until a condition holds; return the seconds that it took."""
        start = time.monotonic()
        while not ready():
            assert time.monotonic() < start + seconds, self.report()
            time.sleep(0.05)
        return time.monotonic() - start

    def wait_for_progress(
        self, spec: Spec, step: int = 1, stages: int = 0, attempts: int = 1
    ) -> None:
        """Wait until the last of this many attempts at a run is beyond this progress, and saved."""

        def beyond() -> bool:
            if len(self.attempts(spec)) < attempts:
                return False
            far = self.progress(spec)
            kept = any((self.store.run_folder(spec.key) / "checkpoints").rglob("*.pt"))
            return far.stages >= stages and far.step >= step and (kept or not step)

        self.wait_until(beyond)

    def wait_for_attempts(self, spec: Spec, count: int) -> None:
        """Wait until there are this many attempts at a run."""
        self.wait_until(lambda: len(self.attempts(spec)) == count)

    def wait_for_causes(self, spec: Spec, count: int) -> None:
        """Wait until this many attempts at a run have ended without a record."""
        self.wait_until(lambda: len(self.causes(spec)) == count)

    def wait_until_no_jobs(self) -> None:
        """Wait until the cluster has no pending or running job."""
        self.wait_until(lambda: not self.jobs())

    def start_now(self, job: str) -> None:
        """Let a requeued job start now instead of after its delay."""
        self.wait_until(lambda: self.jobs().get(job, ("",))[0] == "PENDING" or self.is_done())
        if not self.is_done():
            time.sleep(2)  # what was allowed in the second of the requeue is void
            self.cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now")

    # -- judging ----------------------------------------------------------------------------------

    def check_records(self) -> None:
        """Check that every run has one record, as if undisturbed, and no lease is left."""
        assert self.store.listing().done == {spec.key for spec in self.specs}, self.report()
        for spec in self.specs:
            assert stable(self.store, spec) == undisturbed(spec)
        self.wait_until_no_jobs()
        left = [*self.store.root.glob("*/*/*/claim"), *self.store.root.glob("stages/*/*/*/claim")]
        assert left == []
        assert list(self.store.root.glob("quarantine/*")) == []

    def report(self) -> str:
        """Return queue, notes and logs, for the message of a failed assertion."""
        logs = [*self.store.root.glob("submissions/*/logs/*"), *self.store.root.rglob("log.txt")]
        ends = [f"--- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        notes = [f"{spec}: {self.store.failures(spec.key)}" for spec in self.specs]
        return "\n".join([str(self.jobs()), *notes, *ends])


def step_of(folder: Path) -> int:
    """Return the step of the last save in a folder of checkpoints, 0 if there is none."""
    kept = Checkpoints(folder).load()
    plain = torch.load(io.BytesIO(kept), weights_only=True) if kept else None
    return int(plain["checkpoint"]["step"]) if plain else 0


def replace_command(command: str, folder: Path, script: str) -> str:
    """Return the PATH with a script in place of a command, which the script knows as $real."""
    own = folder / f"replaced-{command}"
    own.mkdir()
    (own / command).write_text(f"#!/bin/bash\nreal={shutil.which(command)}\n{script}\n")
    (own / command).chmod(0o755)
    return f"{own}{os.pathsep}{os.environ['PATH']}"


def json_output(process: subprocess.Popen[str], seconds: float = SECONDS) -> dict[str, Any]:
    """Return the JSON that a `paibench` process prints, which must succeed."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    facts: dict[str, Any] = json.loads(out)
    return facts


def _lines(plain: dict[str, Any]) -> Iterator[str]:
    return (f"{key} = {_toml(value)}\n" for key, value in plain.items() if value is not None)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def _commands() -> Iterator[tuple[int, int, str]]:
    """Yield the id, the parent and the command of every process that is not a zombie."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if state not in "ZX":
                yield int(folder.name), int(parent), command

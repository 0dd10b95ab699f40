"""A bounded pool of worker processes, each with its share of the cores and one run at a time."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from paibench.benchmark import failures
from paibench.benchmark.failures import Cause
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

Outcome = Literal["done", "already", "busy", "failed"]
BREAKER = 3  # failures of one kind without a success after which the rest is not tried


@dataclass(frozen=True)
class Settings:
    """How many workers, where they run, and what each of them may use."""

    jobs: int = 1
    threads: int = 1
    device: str = "cpu"
    data: Path | None = None
    time_limit: float | None = None
    checkpoint_seconds: float = 20.0


@dataclass(frozen=True)
class Event:
    """Something that happened to a run."""

    spec: Spec
    outcome: Outcome
    seconds: float
    cause: str = ""
    reason: str = ""


class Broken(RuntimeError):
    """The first runs all failed for one reason, so the rest was not tried."""


@dataclass
class Worker:
    """One child process and the run that it is at."""

    process: subprocess.Popen[bytes]
    spec: Spec | None = None
    attempt: str = ""
    since: float = 0.0
    heard: bytes = b""

    @property
    def seconds(self) -> float:
        """How long the present run has taken."""
        return time.monotonic() - self.since


@dataclass
class Pool:
    """Does specs in order with `settings.jobs` workers, and says what becomes of each.

    A worker that dies, hangs past the time limit or runs out of memory costs its own run a
    `failed` note in the store and is replaced. Leaving the pool stops all workers; what was
    finished is in the store.
    """

    store: Store
    settings: Settings
    _workers: list[Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self, specs: Sequence[Spec]) -> Iterator[Event]:
        """Do the specs, and yield an event as each ends.

        Raises Broken when `BREAKER` runs failed with one reason before any succeeded.
        """
        waiting = list(reversed(specs))
        reasons: dict[str, int] = {}
        succeeded = False
        try:
            while waiting or any(worker.spec for worker in self._workers):
                self._give_out(waiting)
                for event in self._listen():
                    yield event
                    succeeded = succeeded or event.outcome != "failed"
                    if event.outcome == "failed" and not succeeded:
                        reasons[event.reason] = reasons.get(event.reason, 0) + 1
                        if reasons[event.reason] >= BREAKER and waiting:
                            raise Broken(f"{BREAKER} runs in a row failed: {event.reason}")
        finally:
            self._stop()

    def _give_out(self, waiting: list[Spec]) -> None:
        """Hand the next specs to whoever is free, hiring up to the number of jobs."""
        while waiting:
            worker = next((w for w in self._workers if w.spec is None), None)
            if worker is None:
                if len(self._workers) >= self.settings.jobs:
                    return
                worker = self._hire()
            spec = waiting.pop()
            worker.spec, worker.since = spec, time.monotonic()
            worker.attempt = self.store.new_attempt(spec.key)
            order = {"spec": spec.canonical, "attempt": worker.attempt}
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):  # it died; `_hear` finds out and says so
                worker.process.stdin.write(json.dumps(order).encode() + b"\n")
                worker.process.stdin.flush()

    def _hire(self) -> Worker:
        given = self.settings
        command = [sys.executable, "-m", "paibench.benchmark.worker"]
        command += ["--store", str(self.store.root), "--device", given.device]
        command += ["--threads", str(given.threads)]
        command += ["--checkpoint-seconds", str(given.checkpoint_seconds)]
        command += ["--data", str(given.data)] if given.data else []
        with open(self.store.root / "workers.log", "ab") as log:  # out of the progress bar's way
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(given.threads),
            )
        worker = Worker(process)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _listen(self, patience: float = 0.5) -> Iterator[Event]:
        for ready, _ in self._selector.select(patience):
            yield from self._hear(ready.data)
        limit = self.settings.time_limit
        for worker in list(self._workers):
            if limit and worker.spec and worker.seconds > limit:
                yield self._lose(worker, "time", f"over its time limit of {limit:g} s; killed")

    def _hear(self, worker: Worker) -> Iterator[Event]:
        """What a worker has said since, line by line; silence for good means that it is gone."""
        assert worker.process.stdout is not None
        said = os.read(worker.process.stdout.fileno(), 1 << 16)
        if not said:
            yield from self._bury(worker)
            return
        *lines, worker.heard = (worker.heard + said).split(b"\n")
        for line in lines:
            yield from self._understand(worker, json.loads(line))

    def _understand(self, worker: Worker, said: dict[str, str]) -> Iterator[Event]:
        spec, seconds = worker.spec, worker.seconds
        if spec is None or said["event"] not in ("finished", "failed"):
            return
        worker.spec = None
        if said["event"] == "finished":
            yield Event(spec, cast(Outcome, said["result"]), seconds)
        else:
            yield Event(spec, "failed", seconds, said["cause"], said["reason"])
            if said["cause"] == "memory":  # what it holds is given back with the process
                self._dismiss(worker)

    def _bury(self, worker: Worker) -> Iterator[Event]:
        """A worker is gone without a word: its run failed, and it is replaced."""
        code = worker.process.wait()
        if worker.spec is None:
            self._dismiss(worker)
            return
        how = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        hint = "; the system kills for want of memory" if code == -signal.SIGKILL else ""
        yield self._lose(worker, "killed", f"its worker ended with {how}{hint}")

    def _lose(self, worker: Worker, cause: Cause, reason: str) -> Event:
        spec, attempt, seconds = worker.spec, worker.attempt, worker.seconds
        assert spec is not None
        self._dismiss(worker)
        failures.note(self.store, spec, attempt, cause, reason)
        return Event(spec, "failed", seconds, cause, reason)

    def _dismiss(self, worker: Worker) -> None:
        assert worker.process.stdin is not None
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.wait()
        worker.process.stdout.close()
        with suppress(BrokenPipeError):
            worker.process.stdin.close()

    def _stop(self) -> None:
        """Ask all workers to leave (they release their claims), and see that they do."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(w.process.poll() is None for w in self._workers):
            time.sleep(0.02)
        for worker in list(self._workers):
            self._dismiss(worker)
        self._selector.close()


def _environment(threads: int) -> dict[str, str]:
    """The environment of a worker: its share of the cores, repeatable GPU arithmetic."""
    share = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**os.environ, **share, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

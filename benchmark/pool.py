"""A bounded pool of worker processes, each with its share of the cores and one run at a time."""

import selectors
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paibench.benchmark import failures
from paibench.benchmark.commit import StoreError
from paibench.benchmark.events import BREAKER, Breaker, Broken, Event, one_line
from paibench.benchmark.failures import Cause
from paibench.benchmark.hired import Worker
from paibench.benchmark.lanes import lane
from paibench.benchmark.naming import attempt_name
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

BUSY_SECONDS = 2.0  # between looks at a run that another process does
LEAVE_SECONDS = 5.0  # in which workers are to release their claims when the pool is left


@dataclass(frozen=True)
class Settings:
    """How many workers, where they run, and what each of them may use."""

    jobs: int = 1
    threads: int = 1
    device: str = "cpu"
    data: Path | None = None
    time_limit: float | None = None
    checkpoint_seconds: float = 20.0


@dataclass
class Pool:
    """Does specs in order with `settings.jobs` workers, and says what becomes of each.

    A worker that dies, hangs past the time limit or runs out of memory costs its own run a
    `failed` note in the store and is replaced. Leaving the pool stops all workers; what was
    finished is in the store. What workers print is in its `workers.log`.
    """

    store: Store
    settings: Settings
    _workers: list[Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _waiting: deque[Spec] = field(default_factory=deque)
    _busy: deque[tuple[float, Spec]] = field(default_factory=deque)
    _stillborn: int = 0

    def run(self, specs: Sequence[Spec]) -> Generator[Event]:
        """Do the specs, and yield an event as each ends; to be closed when left early.

        A run that another process is at is waited for. Raises Broken when runs fail for a
        reason that will make the rest fail as well.
        """
        breaker = Breaker.of(specs)
        self._waiting.extend(specs)
        try:
            while self._waiting or self._busy or any(worker.spec for worker in self._workers):
                self._look_again()
                self._hire()
                self._give_out()
                for event in self._listen():
                    yield event
                    if self._waiting:
                        breaker.watch(event)
        finally:
            self._stop()

    def _look_again(self) -> None:
        """Try runs that another process was at some time ago."""
        while self._busy and self._busy[0][0] < time.monotonic():
            self._waiting.append(self._busy.popleft()[1])

    def _hire(self) -> None:
        """Have a worker for each waiting run, up to the number of jobs.

        Raises Broken when no worker comes to be ready.
        """
        given = self.settings
        arguments = ["--store", str(self.store.root), "--device", given.device]
        arguments += ["--threads", str(given.threads)]
        arguments += ["--checkpoint-seconds", str(given.checkpoint_seconds)]
        arguments += ["--data", str(given.data)] if given.data else []
        free = sum(worker.spec is None for worker in self._workers)
        for _ in range(min(given.jobs - len(self._workers), len(self._waiting) - free)):
            if self._stillborn >= BREAKER and self._workers:
                return  # those that did become ready go on alone
            worker = Worker.hire(arguments, given.threads)
            self._workers.append(worker)
            for pipe in worker.pipes:
                self._selector.register(pipe, selectors.EVENT_READ, worker)

    def _give_out(self) -> None:
        """Hand the next runs to whoever is free."""
        for worker in self._workers:
            if worker.ready and worker.spec is None and self._waiting:
                worker.give(self._next(), attempt_name())

    def _next(self) -> Spec:
        """The first waiting run that shares no stages with one at work, else the first."""
        at_work = {lane(worker.spec) for worker in self._workers if worker.spec} - {None}
        free = (n for n, spec in enumerate(self._waiting) if lane(spec) not in at_work)
        place = next(free, 0)
        spec = self._waiting[place]
        del self._waiting[place]
        return spec

    def _listen(self, patience: float = 0.5) -> Iterator[Event]:
        """What workers say within a moment, and what becomes of those that end or hang."""
        for ready, _ in self._selector.select(patience):
            worker: Worker = ready.data
            if worker not in self._workers:
                continue  # dismissed a moment ago
            if ready.fileobj is worker.pipes[1]:
                if not worker.keep_prints(self.store.root / "workers.log"):
                    self._selector.unregister(ready.fileobj)
            elif (said := worker.events()) is None:
                self._selector.unregister(ready.fileobj)
                worker.end()
            else:
                for event in said:
                    yield from self._understand(worker, event)
        limit = self.settings.time_limit
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                yield from self._bury(worker)
            elif limit and worker.spec and worker.seconds > limit:
                yield self._lose(worker, "time", f"over its time limit of {limit:g} s; killed")

    def _understand(self, worker: Worker, said: dict[str, str]) -> Iterator[Event]:
        spec, seconds = worker.spec, worker.seconds
        if said["event"] == "ready":
            worker.ready, self._stillborn = True, 0
        if spec is None or said["event"] not in ("finished", "failed"):
            return
        worker.spec = None
        if said["event"] == "failed":
            if said["cause"] == "memory":  # what it holds is given back with the process
                self._dismiss(worker)
            yield Event(spec, "failed", seconds, said["cause"], said["reason"])
        elif said["result"] == "busy":
            self._busy.append((time.monotonic() + BUSY_SECONDS, spec))
        else:
            yield Event(spec, "done" if said["result"] == "done" else "already", seconds)

    def _bury(self, worker: Worker) -> Iterator[Event]:
        """A worker has ended: the run that it was at failed, and it is replaced."""
        for said in worker.events() or []:
            yield from self._understand(worker, said)
        if worker not in self._workers:
            return
        worker.keep_prints(self.store.root / "workers.log")
        code = worker.process.wait()
        how = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        if worker.spec:
            hint = "; the system kills for want of memory" if code == -signal.SIGKILL else ""
            cause: Cause = "error" if code >= 0 else "killed"  # who leaves would leave again
            yield self._lose(worker, cause, f"its worker ended with {how}{hint}")
            return
        self._dismiss(worker)
        self._stillborn += not worker.ready
        if self._stillborn >= BREAKER and not self._workers:
            last = worker.last_words.decode(errors="replace").strip().rpartition("\n")[2]
            raise Broken(f"no worker came to be ready, the last ended with {how}: {one_line(last)}")

    def _lose(self, worker: Worker, cause: Cause, reason: str) -> Event:
        spec, seconds = worker.spec, worker.seconds
        assert spec is not None
        self._dismiss(worker)
        if self.store.is_done(spec.key):
            return Event(spec, "done", seconds)
        try:
            failures.note(self.store, spec, worker.attempt, cause, reason)
        except StoreError as trouble:
            cause, reason = "storage", f"{trouble} (while noting: {reason})"
        return Event(spec, "failed", seconds, cause, reason)

    def _dismiss(self, worker: Worker) -> None:
        self._workers.remove(worker)
        for pipe in worker.pipes:
            if pipe in self._selector.get_map():
                self._selector.unregister(pipe)
        worker.dismiss()

    def _stop(self) -> None:
        """Ask all workers to leave (they release their claims), and see that they do."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < deadline and any(w.process.poll() is None for w in self._workers):
            time.sleep(0.02)
        for worker in list(self._workers):
            self._dismiss(worker)
        self._selector.close()

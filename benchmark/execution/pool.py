"""A bounded pool of worker processes, each with its share of the cores and one run at a time."""

import math
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from paibench.benchmark.execution.events import BREAKER, CircuitBreaker, CircuitBroken, Event
from paibench.benchmark.execution.memory_limit import memory_kills
from paibench.benchmark.execution.worker_process import EXIT_INTERRUPTED, Worker
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.atomic import StoreError
from paibench.benchmark.store.failures import Cause
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.plan import stage_group
from paibench.methods.core.text import one_line


@dataclass
class ExitReasons:
    """Tells the ends of workers, one after the other."""

    _kills: int = field(default_factory=memory_kills)

    def why(self, code: int) -> tuple[Cause, str]:
        """The cause of a worker's end, and a line about it."""
        reason = f"its worker ended with {describe_exit(code)}"
        if code == EXIT_INTERRUPTED:
            return "killed", f"{reason}: somebody told it to leave"
        if code >= 0:  # who leaves would leave again
            return "error", reason + (" but left no record" if code == 0 else "")
        if -code not in (signal.SIGKILL, signal.SIGTERM):
            return "crashed", reason
        before, self._kills = self._kills, memory_kills()
        if self._kills > before:
            return "memory", f"{reason}: the system killed it for want of memory"
        hint = "; the system kills for want of memory" if code == -signal.SIGKILL else ""
        return "killed", f"{reason}{hint}"


def describe_exit(code: int) -> str:
    """An exit code as people say it."""
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


# pool: A bounded pool of worker processes, each with its share of the cores and one run at a time.

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
    memory_mb: int | None = None
    """MiB that the work on one run may hold at the most."""
    grace: float = LEAVE_SECONDS
    """Seconds in which workers are to keep what they are at when the pool is left."""
    patience: float = math.inf
    """Seconds to wait for runs that other processes are at, when there is nothing else to do."""
    trusted: bool = False
    """Whether third parties' methods are run in the workers, as our own are."""
    search_seconds: float | None = None
    """The most that a search of theirs may take; None for the suite's own limit."""
    method_files: tuple[str, ...] = ()
    """Methods that are not installed, as `file.py:function`."""


@dataclass
class Pool:
    """Does specs in order with `settings.jobs` workers, and says what becomes of each.

    A worker that dies, hangs past the time limit or runs out of memory costs its own run a
    `failed` note in the store and is replaced. Leaving the pool stops all workers, which keep
    what they are at where they can; what was finished is in the store. What a run prints is in
    the log of its attempt, what a worker prints besides in the store's `workers.log`.
    """

    store: Store
    settings: Settings
    leaving: Callable[[], bool] = lambda: False
    """To be asked twice a second whether the pool is to be left early."""
    may_begin: Callable[[], bool] = lambda: True
    """To be asked before each run; once it is not so, the rest is left undone."""
    left: list[tuple[Spec, str]] = field(default_factory=list)
    """The runs, with their attempts, that workers were at when the pool was left."""
    _workers: list[Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _waiting: deque[Spec] = field(default_factory=deque)
    _busy: deque[tuple[float, Spec]] = field(default_factory=deque)
    _stillborn: int = 0
    _returned: set[str] = field(default_factory=set)
    _others: set[str] = field(default_factory=set)
    _got_on: float = field(default_factory=time.monotonic)
    _ends: ExitReasons = field(default_factory=ExitReasons)

    def run(self, specs: Sequence[Spec]) -> Generator[Event]:
        """Do the specs, and yield an event as each ends; to be closed when left early.

        A run that another process is at is waited for. Raises Broken when runs fail for a
        reason that will make the rest fail as well.
        """
        breaker = CircuitBreaker.of(specs)
        self._waiting.extend(specs)
        try:
            while not self.leaving() and self._has_work():
                self._look_again()
                self._hire()
                self._give_out()
                for event in self._listen():
                    yield event
                    if self._waiting:
                        breaker.watch(event)
        finally:
            self._stop()

    def _has_work(self) -> bool:
        """Whether anything is to be done or waited for."""
        at_work = [worker.spec for worker in self._workers if worker.spec]
        left = [*self._waiting, *at_work, *(spec for _, spec in self._busy)]
        if all(spec.key in self._others for spec in left):
            return bool(left) and time.monotonic() - self._got_on < self.settings.patience
        return True

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
        arguments += ["--memory-mb", str(given.memory_mb)] if given.memory_mb else []
        arguments += ["--trusted"] if given.trusted else []
        arguments += ["--search-seconds", str(given.search_seconds)] if given.search_seconds else []
        arguments += [part for file in given.method_files for part in ("--method-file", file)]
        free = sum(worker.spec is None for worker in self._workers)
        for _ in range(min(given.jobs - len(self._workers), len(self._waiting) - free)):
            if self._stillborn >= BREAKER and self._workers:
                return  # those that did become ready go on alone
            worker = Worker.hire(arguments, given.threads, self._free_gpu())
            self._workers.append(worker)
            for pipe in worker.pipes:
                self._selector.register(pipe, selectors.EVENT_READ, worker)

    def _free_gpu(self) -> str | None:
        """Where there are several GPUs to choose from, the one with the fewest workers."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if self.settings.device != "cuda" or len(visible) < 2:
            return None
        taken = [worker.gpu for worker in self._workers]
        return min(visible, key=taken.count)

    def _give_out(self) -> None:
        """Hand the next runs to whoever is free."""
        for worker in self._workers:
            if worker.ready and worker.spec is None and self._waiting:
                if not self.may_begin():
                    self._waiting.clear()
                    self._busy.clear()
                    return
                worker.give(self._next(), new_attempt_id())

    def _next(self) -> Spec:
        """The first waiting run that shares no stages with one at work, else the first."""
        at_work = {stage_group(worker.spec) for worker in self._workers if worker.spec} - {None}
        free = (n for n, spec in enumerate(self._waiting) if stage_group(spec) not in at_work)
        place = next(free, 0)
        spec = self._waiting[place]
        del self._waiting[place]
        return spec

    def _listen(self, patience: float = 0.5) -> Iterator[Event]:
        """What workers say within a moment, and what becomes of those that end or hang.

        Nothing once the pool is to be left: whoever told us may have told the workers as well.
        """
        for ready, _ in self._selector.select(patience):
            if self.leaving():
                return
            worker: Worker = ready.data
            if worker not in self._workers:
                continue  # dismissed a moment ago
            if ready.fileobj is worker.pipes[1]:
                if not worker.keep_prints(self._log(worker)):
                    self._selector.unregister(ready.fileobj)
            elif (said := worker.events()) is None:
                self._selector.unregister(ready.fileobj)
                worker.end()
            else:
                for event in said:
                    yield from self._understand(worker, event)
        limit = self.settings.time_limit
        for worker in list(self._workers):
            if self.leaving():
                return
            if worker.process.poll() is not None:
                yield from self._bury(worker)
            elif limit and worker.spec and worker.seconds > limit:
                yield self._lose(worker, "time", f"over its time limit of {limit:g} s; killed")

    def _understand(self, worker: Worker, said: dict[str, str]) -> Iterator[Event]:
        spec, seconds = worker.spec, worker.seconds
        if said["event"] == "ready":
            worker.ready, self._stillborn = True, 0
        if said.get("result") != "busy":
            self._got_on = time.monotonic()
        if spec and said["event"] == "alive":
            self._others.discard(spec.key)  # it is ours now
        if spec is None or said["event"] not in ("finished", "failed"):
            return
        worker.keep_prints(self._log(worker))
        worker.spec = None
        if said["event"] == "failed":
            # what it holds is given back with the process; a GPU may be out of order for this one
            if said["cause"] == "memory" or self.settings.device != "cpu":
                self._dismiss(worker)
            yield Event(spec, "failed", seconds, said["cause"], said["reason"])
        elif said["result"] == "busy":
            self._others.add(spec.key)
            self._busy.append((time.monotonic() + BUSY_SECONDS, spec))
        else:
            yield Event(spec, "done" if said["result"] == "done" else "already", seconds)

    def _bury(self, worker: Worker) -> Iterator[Event]:
        """A worker has ended: the run that it was at failed, and it is replaced."""
        for said in worker.events() or []:
            yield from self._understand(worker, said)
        if worker not in self._workers:
            return
        worker.keep_prints(self._log(worker))
        code = worker.process.wait()
        if worker.spec and self._had_not_begun(worker, worker.spec):
            self._returned.add(worker.spec.key)
            self._waiting.appendleft(worker.spec)
        elif worker.spec:
            yield self._lose(worker, *self._ends.why(code))
            return
        self._dismiss(worker)
        self._stillborn += not worker.ready
        if self._stillborn >= BREAKER and not self._workers:
            last = worker.last_words.decode(errors="replace").strip().rpartition("\n")[2]
            raise CircuitBroken(
                f"no worker came to be ready, the last ended with "
                f"{describe_exit(code)}: {one_line(last)}"
            )

    def _had_not_begun(self, worker: Worker, spec: Spec) -> bool:
        """Whether a worker died before it came to its run, which is so excused but once."""
        begun = worker.attempt in self.store.attempts(spec.key)
        return not begun and spec.key not in self._returned

    def _log(self, worker: Worker) -> Path:
        """Where the prints of a worker go: to the attempt that it is at, if any."""
        if worker.spec is None:
            return self.store.root / "workers.log"
        return self.store.attempt_folder(worker.spec.key, worker.attempt) / "log.txt"

    def _lose(self, worker: Worker, cause: Cause, reason: str) -> Event:
        spec, seconds = worker.spec, worker.seconds
        assert spec is not None
        self._dismiss(worker)
        if self.store.is_done(spec.key):
            return Event(spec, "done", seconds)
        try:
            memory_mb = self.settings.memory_mb
            failures.record_failure(
                self.store, spec, worker.attempt, cause, reason, memory_mb=memory_mb
            )
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
        """Ask all workers to keep what they are at and leave, then to leave at once, then kill."""
        at_work = [(worker.spec, worker.attempt) for worker in self._workers if worker.spec]
        for request, share in ((signal.SIGTERM, 0.7), (signal.SIGUSR1, 0.3)):
            for worker in self._workers:
                if worker.process.poll() is None:
                    worker.process.send_signal(request)
            self._await_ends(self.settings.grace * share)
        for worker in list(self._workers):
            self._dismiss(worker)
        self._selector.close()
        is_unfinished = partial(failures.is_unfinished, self.store)
        self.left = [(spec, name) for spec, name in at_work if is_unfinished(spec.key, name)]

    def _await_ends(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(w.process.poll() is None for w in self._workers):
            for worker in self._workers:  # a full pipe would hold it up
                worker.keep_prints(self._log(worker))
                worker.events()
            time.sleep(0.02)

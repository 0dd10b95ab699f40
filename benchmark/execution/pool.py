"""A bounded pool of worker processes, each with its share of the cores and one run at a time.

`pebble` and `concurrent.futures` are not used: they have no time to save a run before a worker is
killed, no log per run, no choice of a GPU per worker, and they pass pickles.
"""

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.execution.worker_process import ExitReasons, Worker, describe_exit
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.atomic import StoreError
from paibench.benchmark.store.failures import Cause
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.plan import stage_group
from paibench.methods.core.text import one_line

Outcome = Literal["done", "already", "failed"]
BREAKER_LIMIT = 3
"""Failures in a row after which the rest of a sweep is not tried."""
BUSY_SECONDS = 2.0  # between two looks at a run that another process holds


@dataclass(frozen=True)
class Event:
    """The end of a run; a failed run has a cause and a reason of one line."""

    spec: Spec
    outcome: Outcome
    seconds: float
    cause: str = ""
    reason: str = ""


class CircuitBroken(RuntimeError):
    """Runs fail for a reason that is not their own, so the remaining runs are not tried."""


@dataclass
class CircuitBreaker:
    """Detects what makes every run fail: no data, a full disk, a broken installation.

    A method that fails by itself must not stop the others: before the first success the same
    reason must come in a row from `BREAKER_LIMIT` methods, or from all methods if there are fewer.
    A store that cannot be written stops a sweep at any time.
    """

    methods: int
    _succeeded: bool = False
    _reason: str = ""
    _failed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, specs: Sequence[Spec]) -> "CircuitBreaker":
        """Return a breaker for these runs."""
        return cls(len({spec.method.name for spec in specs}))

    def check(self, event: Event) -> None:
        """Raise CircuitBroken if this event shows that the remaining runs will fail too."""
        storage = event.cause == "storage"
        reason = "storage" if storage else event.reason
        if reason != self._reason:
            self._reason, self._failed = reason, []
        if event.outcome != "failed":
            self._succeeded = True
        elif storage or not self._succeeded:
            self._failed.append(event.spec.method.name)
        needed = 1 if storage else min(BREAKER_LIMIT, self.methods)
        if len(self._failed) >= BREAKER_LIMIT and len(set(self._failed)) >= needed:
            raise CircuitBroken(f"{len(self._failed)} runs in a row failed: {event.reason}")


@dataclass
class Pool:
    """Executes specs in order with `settings.jobs` workers, and reports the end of each.

    If a worker dies, exceeds the time limit or runs out of memory, its run is noted as failed in
    the store and the worker is replaced. Leaving the pool stops all workers; they save their runs
    if they can. The output of a run goes to the log of its attempt, other output of workers to the
    store's `workers.log`.
    """

    store: Store
    settings: RunSettings
    should_stop: Callable[[], bool] = lambda: False
    """Asked twice a second whether to stop early."""
    may_start: Callable[[], bool] = lambda: True
    """Asked before each run; once it is False, the remaining runs are not started."""
    interrupted: list[tuple[Spec, str]] = field(default_factory=list)
    """The runs, with their attempts, that were running when the pool stopped."""
    _workers: list[Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _waiting: deque[Spec] = field(default_factory=deque)
    _busy: deque[tuple[float, Spec]] = field(default_factory=deque)
    _failed_starts: int = 0
    _restarted: set[str] = field(default_factory=set)
    _leased_by_others: set[str] = field(default_factory=set)
    _last_progress: float = field(default_factory=time.monotonic)
    _exit_reasons: ExitReasons = field(default_factory=ExitReasons)

    def run(self, specs: Sequence[Spec]) -> Generator[Event]:
        """Execute the specs and yield an event at the end of each; close it to stop early.

        The pool waits for runs that other processes hold. Raises CircuitBroken if runs fail for a
        reason that will make the remaining ones fail too.
        """
        breaker = CircuitBreaker.of(specs)
        self._waiting.extend(specs)
        try:
            while not self.should_stop() and self._has_work():
                self._retry_busy()
                self._start_workers()
                self._assign()
                for event in self._poll():
                    yield event
                    if self._waiting:
                        breaker.check(event)
        finally:
            self._stop()

    def _has_work(self) -> bool:
        """Whether there is a run to execute or to wait for."""
        running = [worker.spec for worker in self._workers if worker.spec]
        left = [*self._waiting, *running, *(spec for _, spec in self._busy)]
        # the other process may be gone without a trace, so the wait has an end
        if all(spec.key in self._leased_by_others for spec in left):
            idle = time.monotonic() - self._last_progress
            return bool(left) and idle < self.settings.wait_seconds
        return True

    def _retry_busy(self) -> None:
        """Try again the runs that another process held some time ago."""
        while self._busy and self._busy[0][0] < time.monotonic():
            self._waiting.append(self._busy.popleft()[1])

    def _start_workers(self) -> None:
        """Start a worker for each waiting run, up to the number of jobs."""
        free = sum(worker.spec is None for worker in self._workers)
        for _ in range(min(self.settings.jobs - len(self._workers), len(self._waiting) - free)):
            if self._failed_starts >= BREAKER_LIMIT and self._workers:
                return  # the workers that did become ready continue alone
            worker = Worker.start(self.store.root, self.settings, self._free_gpu())
            self._workers.append(worker)
            for pipe in worker.pipes:
                self._selector.register(pipe, selectors.EVENT_READ, worker)

    def _free_gpu(self) -> str | None:
        """Return the GPU with the fewest workers, if there are several to choose from."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        # a device such as cuda:1 is the user's choice, and workers inherit it
        if self.settings.device != "cuda" or len(visible) < 2:
            return None
        in_use = [worker.gpu for worker in self._workers]
        return min(visible, key=in_use.count)

    def _assign(self) -> None:
        """Assign the next runs to the free workers."""
        for worker in self._workers:
            if worker.ready and worker.spec is None and self._waiting:
                if not self.may_start():
                    self._waiting.clear()
                    self._busy.clear()
                    return
                worker.assign(self._next(), new_attempt_id())

    def _next(self) -> Spec:
        """Return the first waiting run that shares no stages with a running one, else the first."""
        # a run that needs a stage of a running one would only wait for it
        running = {stage_group(worker.spec) for worker in self._workers if worker.spec} - {None}
        free = (n for n, spec in enumerate(self._waiting) if stage_group(spec) not in running)
        index = next(free, 0)
        spec = self._waiting[index]
        del self._waiting[index]
        return spec

    def _poll(self, seconds: float = 0.5) -> Iterator[Event]:
        """Wait for output of the workers, and yield the ends of runs.

        Nothing is yielded once the pool must stop: the workers may have received the same signal,
        and a run that they save has not failed.
        """
        for ready, _ in self._selector.select(seconds):
            if self.should_stop():
                return
            worker: Worker = ready.data
            if worker not in self._workers:
                continue  # killed in an earlier round of this loop
            if ready.fileobj is worker.pipes[1]:
                if not worker.log_output(self._log(worker)):
                    self._selector.unregister(ready.fileobj)
            elif (messages := worker.events()) is None:
                self._selector.unregister(ready.fileobj)
                # only its exit closes this pipe, so the process ends soon
                worker.wait()
            else:
                for message in messages:
                    yield from self._handle(worker, message)
        limit = self.settings.time_limit
        for worker in list(self._workers):
            if self.should_stop():
                return
            if worker.process.poll() is not None:
                yield from self._handle_exit(worker)
            elif limit and worker.spec and worker.seconds > limit:
                yield self._fail(worker, "time", f"over its time limit of {limit:g} s; killed")

    def _handle(self, worker: Worker, message: dict[str, Any]) -> Iterator[Event]:
        spec, seconds = worker.spec, worker.seconds
        if message["event"] == "ready":
            worker.ready, self._failed_starts = True, 0
        # a busy answer repeats every few seconds and would keep the pool waiting for ever
        if message.get("result") != "busy":
            self._last_progress = time.monotonic()
        if spec and message["event"] == "alive":
            self._leased_by_others.discard(spec.key)  # our worker holds it now
        if spec is None or message["event"] not in ("finished", "failed"):
            return
        worker.log_output(self._log(worker))
        worker.spec = None
        if message["event"] == "failed":
            # a new process returns the memory, and a GPU may be unusable in the old one
            if message["cause"] == "memory" or self.settings.device != "cpu":
                self._kill(worker)
            yield Event(spec, "failed", seconds, message["cause"], message["reason"])
        elif message["result"] == "busy":
            self._leased_by_others.add(spec.key)
            self._busy.append((time.monotonic() + BUSY_SECONDS, spec))
        else:
            yield Event(spec, "done" if message["result"] == "done" else "already", seconds)

    def _handle_exit(self, worker: Worker) -> Iterator[Event]:
        """Replace a worker that has exited; its run has failed, unless the run had not started."""
        # the end of the run may still be in the pipe
        for message in worker.events() or []:
            yield from self._handle(worker, message)
        if worker not in self._workers:
            return
        worker.log_output(self._log(worker))
        code = worker.process.wait()
        if worker.spec and self._had_not_begun(worker, worker.spec):
            self._restarted.add(worker.spec.key)
            self._waiting.appendleft(worker.spec)
        elif worker.spec:
            yield self._fail(worker, *self._exit_reasons.explain(code))
            return
        self._kill(worker)
        self._failed_starts += not worker.ready
        if self._failed_starts >= BREAKER_LIMIT and not self._workers:
            last = worker.last_output.decode(errors="replace").strip().rpartition("\n")[2]
            raise CircuitBroken(
                f"no worker became ready, the last ended with "
                f"{describe_exit(code)}: {one_line(last)}"
            )

    def _had_not_begun(self, worker: Worker, spec: Spec) -> bool:
        """Whether a worker died before it began its run; a run is excused only once."""
        begun = worker.attempt in self.store.attempts(spec.key)
        return not begun and spec.key not in self._restarted

    def _log(self, worker: Worker) -> Path:
        """Return the file for a worker's output: the log of its attempt, if it has one."""
        if worker.spec is None:
            return self.store.root / "workers.log"
        return self.store.attempt_folder(worker.spec.key, worker.attempt) / "log.txt"

    def _fail(self, worker: Worker, cause: Cause, reason: str) -> Event:
        """Kill a worker and note the failure of its run."""
        spec, seconds = worker.spec, worker.seconds
        assert spec is not None
        self._kill(worker)
        # the worker may have published its record just before it was killed
        if self.store.is_done(spec.key):
            return Event(spec, "done", seconds)
        try:
            memory_mb = self.settings.memory_mb
            failures.record_failure(
                self.store, spec, worker.attempt, cause, reason, memory_mb=memory_mb
            )
        except StoreError as error:
            cause, reason = "storage", f"{error} (while noting: {reason})"
        return Event(spec, "failed", seconds, cause, reason)

    def _kill(self, worker: Worker) -> None:
        self._workers.remove(worker)
        for pipe in worker.pipes:
            if pipe in self._selector.get_map():
                self._selector.unregister(pipe)
        worker.kill()

    def _stop(self) -> None:
        """Ask all workers to save and stop, then to stop at once, then kill them."""
        running = [(worker.spec, worker.attempt) for worker in self._workers if worker.spec]
        # SIGTERM lets a worker save its run; SIGUSR1 only lets it release its leases
        for request, share in ((signal.SIGTERM, 0.7), (signal.SIGUSR1, 0.3)):
            for worker in self._workers:
                if worker.process.poll() is None:
                    worker.process.send_signal(request)
            self._wait_for_exits(self.settings.grace_seconds * share)
        for worker in list(self._workers):
            self._kill(worker)
        self._selector.close()
        is_unfinished = partial(failures.is_unfinished, self.store)
        self.interrupted = [(spec, name) for spec, name in running if is_unfinished(spec.key, name)]

    def _wait_for_exits(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(w.process.poll() is None for w in self._workers):
            for worker in self._workers:  # a full pipe would block a worker
                worker.log_output(self._log(worker))
                worker.events()
            time.sleep(0.02)

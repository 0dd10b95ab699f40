"""A worker process: executes the runs that its pool assigns.

Its standard input takes JSON lines: first the store and the settings, then one line per run. Its
standard output gives one JSON line per event. A method finds standard input empty, and its prints
go to standard error, so that it can neither take a run nor forge an event.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from paibench.benchmark.execution.memory import limit_memory
from paibench.benchmark.execution.process_tree import die_with_parent
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.execution.worker_process import BLOCKED_SIGNALS, EXIT_INTERRUPTED
from paibench.benchmark.provenance import code_digest_at_start
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import use_file
from paibench.methods.training.services import Interrupted

EVENT_SECONDS = 0.5


def main() -> None:
    """Execute runs until standard input ends or a signal asks this process to stop."""
    die_with_parent()
    stop = _StopRequest()
    stop.install_handlers()
    with _private_pipes() as (lines, emit):
        first = json.loads(next(lines))
        settings = RunSettings.from_json(first["settings"])
        store = Store.open(Path(first["store"]), create=False)
        # torch takes seconds to import; a store that cannot be opened is reported before
        from paibench.benchmark.execution.attempt import Failed, attempt

        if settings.memory_mb and settings.device == "cpu":
            limit_memory(settings.memory_mb)
        for file in settings.method_files:
            use_file(file)
        code_digest_at_start()  # before a method or an editor can change the files
        stop.ready = True
        emit(event="ready")
        for line in lines:
            order = json.loads(line)
            spec, name = Spec.model_validate(order["spec"]), order["attempt"]
            with stop.during_run():
                try:
                    result = attempt(
                        spec,
                        store,
                        settings,
                        name=name,
                        on_progress=_alive_events(emit),
                        should_stop=stop.is_requested,
                    )
                    emit(event="finished", result=result)
                except Failed as failed:
                    traceback.print_exception(failed.__cause__)
                    emit(event="failed", cause=failed.cause, reason=str(failed))


def _alive_events(emit: Callable[..., None]) -> Callable[[], None]:
    """Return a function that emits a sign of progress, at most twice a second."""
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last > EVENT_SECONDS:
            last = time.monotonic()
            emit(event="alive")

    return alive


class _StopRequest:
    """Whether a signal asked this process to stop.

    After SIGTERM it stops as soon as its run is saved, after SIGUSR1 at once. Both ways run every
    `finally`, so that leases are released.
    """

    def __init__(self) -> None:
        self.ready = False
        self._requested = False
        self._running = False

    def is_requested(self) -> bool:
        """Whether SIGTERM has arrived."""
        return self._requested

    def install_handlers(self) -> None:
        """Handle signals from now on; the parent has blocked them until here."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # and the warning before a job's end
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGUSR1, self._stop_now)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)

    @contextmanager
    def during_run(self) -> Iterator[None]:
        """While a run can be saved; before and after it a request stops the process at once."""
        self._running = True
        yield
        self._running = False
        if self._requested:
            raise Interrupted

    def _request(self, *_: Any) -> None:
        self._requested = True
        if not self._running:
            self._stop_now()

    def _stop_now(self, *_: Any) -> None:
        if not self.ready:  # no lease is held yet, and an import might swallow an exception
            os._exit(EXIT_INTERRUPTED)
        raise Interrupted


@contextmanager
def _private_pipes() -> Iterator[tuple[IO[str], Callable[..., None]]]:
    """Move standard input and output out of the reach of methods.

    Yield the lines of what was standard input, and a function that writes events to what was
    standard output.
    """
    # The pool kills a worker that lives on after its pipe was closed, and Python needs a while to
    # exit: only the end of the process may close the pipe.
    lines, events = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1, closefd=False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    def emit(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    yield lines, emit


if __name__ == "__main__":
    try:
        main()
    except Interrupted:
        sys.exit(EXIT_INTERRUPTED)

"""A worker process: takes specs from its standard input, one JSON line each, and does them.

It answers with one JSON line per event. A method finds its standard input empty, and what it
prints goes to standard error, so that it can neither take an order nor be taken for an event.
"""

import argparse
import ctypes
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

from paibench.benchmark.execution.memory_limit import limit_memory
from paibench.benchmark.execution.worker_process import BLOCKED_SIGNALS, EXIT_INTERRUPTED
from paibench.benchmark.provenance import code_digest_at_start
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.heartbeat import Interrupted
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import use_file

EVENT_SECONDS = 0.5


def main() -> None:
    """`python -m paibench.benchmark.execution.worker`: see `arguments`."""
    given = _arguments()
    _die_with_parent()
    leaving = _Leaving()
    leaving.listen()
    with _private_pipes() as (orders, say):
        store = Store.open(given.store, create=False)
        from paibench.benchmark.execution.attempt import Failed, attempt
        from paibench.benchmark.steps.device import RunSettings

        if given.memory_mb and given.device == "cpu":
            limit_memory(given.memory_mb)
        for file in given.method_file:
            use_file(file)
        place = RunSettings(
            device=given.device,
            threads=given.threads,
            data=given.data,
            memory_mb=given.memory_mb,
            trusted=given.trusted,
            search_seconds=given.search_seconds,
        )
        code_digest_at_start()
        leaving.ready = True
        say(event="ready")
        for line in orders:
            order = json.loads(line)
            spec = Spec.model_validate(order["spec"])
            with leaving.at_work():
                try:
                    result = attempt(
                        spec,
                        store,
                        place,
                        name=order["attempt"],
                        pulse=_ticker(say),
                        leaving=leaving,
                        checkpoint_seconds=given.checkpoint_seconds,
                    )
                    say(event="finished", result=result)
                except Failed as failed:
                    traceback.print_exception(failed.__cause__)
                    say(event="failed", cause=failed.cause, reason=str(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="paibench.benchmark.execution.worker")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint-seconds", type=float, default=20.0)
    parser.add_argument("--memory-mb", type=int)
    parser.add_argument("--trusted", action="store_true")
    parser.add_argument("--search-seconds", type=float)
    parser.add_argument("--method-file", action="append", default=[])
    return parser.parse_args()


def _ticker(say: Callable[..., None]) -> Callable[[], None]:
    """Says that work gets on, at most twice a second."""
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > EVENT_SECONDS:
            last = time.monotonic()
            say(event="alive")

    return tick


class _Leaving:
    """Whether this process was asked to leave: by SIGTERM as soon as its run is kept, by SIGUSR1
    at once. Either way it goes through every `finally`, so that claims are released.
    """

    def __init__(self) -> None:
        self.asked = False
        self.ready = False
        self.busy = False

    def __call__(self) -> bool:
        return self.asked

    def listen(self) -> None:
        """Heed the signals from now on; the parent has them held back until then."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # and so is the end of a job's time
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGUSR1, self._leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While a run can be kept; being asked before or after is to leave."""
        self.busy = True
        yield
        self.busy = False
        if self.asked:
            raise Interrupted

    def _ask(self, *_: Any) -> None:
        self.asked = True
        if not self.busy:
            self._leave()

    def _leave(self, *_: Any) -> None:
        if not self.ready:  # nothing is held yet, and an import may swallow what is raised in it
            os._exit(EXIT_INTERRUPTED)
        raise Interrupted


def _die_with_parent() -> None:
    """Be killed when the parent is, so that no worker is left behind (on Linux)."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


@contextmanager
def _private_pipes() -> Iterator[tuple[IO[str], Callable[..., None]]]:
    """Orders from what was standard input, and a way to say events on what was standard output."""
    orders, events = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    def say(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    yield orders, say


if __name__ == "__main__":
    try:
        main()
    except Interrupted:
        sys.exit(EXIT_INTERRUPTED)

"""Run the cases in another process, so that a finder that crashes or hangs fails only one case.

pytest could run them, but it is not a dependency of paibench, and after a crash it has no results
without pytest-xdist, nor a limit for a case without pytest-timeout.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO

from paibench.methods.conformance.report import CASES, Result
from paibench.methods.core.registry import UserError

CASE_SECONDS = 120.0
_STARTUP_SECONDS = 300.0  # importing torch from a slow file system takes minutes


def run_isolated(
    method: str, cases: Sequence[str] = tuple(CASES), seconds: float = CASE_SECONDS
) -> Iterator[Result]:
    """Run cases of a method, each for at most `seconds`; yield their results in order.

    If the process ends or hangs, the current case has failed, and another process runs the rest.
    Raises UserError if the method does not exist.
    """
    remaining = list(cases)
    while remaining:
        with tempfile.TemporaryDirectory() as folder:
            for result in _first_results(method, tuple(remaining), seconds, folder):
                yield result
                remaining.remove(result.case)


def _first_results(
    method: str, cases: Sequence[str], seconds: float, folder: str
) -> Iterator[Result]:
    """Yield the results up to the first case at which the process ends."""
    process = subprocess.Popen(
        # -P: a file in the current folder must not replace a module
        [sys.executable, "-P", "-m", "paibench.methods.conformance", method, *cases],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # temporary files of a killed finder disappear with this folder
        env=os.environ | {"TMPDIR": folder},
        # a group of its own, so that processes that the finder started are killed with it
        process_group=0,
    )
    assert process.stdout is not None
    try:
        # the first case also waits for the imports
        buffer, limit = b"", seconds + _STARTUP_SECONDS
        for case in cases:
            started = time.monotonic()
            line, buffer = _line(process.stdout, buffer, limit)
            limit = seconds
            if not line:
                elapsed = round(time.monotonic() - started, 3)
                yield Result(
                    case, "failed", "a search that ends", _reason(process, elapsed), elapsed
                )
                return
            plain = json.loads(line)
            if "error" in plain:
                raise UserError(plain["error"])
            yield Result(**plain)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _line(pipe: IO[bytes], buffer: bytes, seconds: float) -> tuple[bytes, bytes]:
    """Return the next line and the bytes after it; an empty line if none comes in time."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while b"\n" not in buffer:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                return b"", buffer
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                return b"", buffer
            buffer += chunk
    line, _, rest = buffer.partition(b"\n")
    return line, rest


def _reason(process: "subprocess.Popen[bytes]", seconds: float) -> str:
    """Return why a process sends no more results."""
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(1)
        if code < 0:
            return f"its process ended with signal {signal.Signals(-code).name}"
        return f"its process ended with exit status {code}"
    return f"no result in {seconds:.0f} s; killed"

"""The cases in a process of their own, so that a finder that crashes or hangs fails a case."""

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

from paibench.methods.conformance.names import CASES
from paibench.methods.conformance.result import Result
from paibench.methods.registry import UserError

CASE_SECONDS = 120.0
_STARTING_SECONDS = 300.0  # to import torch from a slow file system


def examine(
    method: str, cases: Sequence[str] = tuple(CASES), seconds: float = CASE_SECONDS
) -> Iterator[Result]:
    """Run cases over a finder, each as long as it may take; what becomes of them, in order.

    Where its process ends or hangs, the case that it was at has failed, and the rest is run in
    another. Raises UserError where there is no such method.
    """
    left = list(cases)
    while left:
        with tempfile.TemporaryDirectory() as folder:
            for result in _some(method, tuple(left), seconds, folder):
                yield result
                left.remove(result.case)


def _some(method: str, cases: Sequence[str], seconds: float, folder: str) -> Iterator[Result]:
    """The results of the first cases, up to the first at which the process ends."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "paibench.methods.conformance", method, *cases],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": folder},
        process_group=0,
    )
    assert process.stdout is not None
    try:
        heard, limit = b"", seconds + _STARTING_SECONDS
        for case in cases:
            started = time.monotonic()
            line, heard = _line(process.stdout, heard, limit)
            limit = seconds
            if not line:
                took = round(time.monotonic() - started, 3)
                yield Result(case, "failed", "a search that ends", _ended(process, took), took)
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


def _line(pipe: IO[bytes], heard: bytes, seconds: float) -> tuple[bytes, bytes]:
    """The next line and what was heard behind it; empty where none comes in time."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while b"\n" not in heard:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                return b"", heard
            came = os.read(pipe.fileno(), 1 << 16)
            if not came:
                return b"", heard
            heard += came
    line, _, rest = heard.partition(b"\n")
    return line, rest


def _ended(process: "subprocess.Popen[bytes]", seconds: float) -> str:
    """How a process that says no more has ended, in words."""
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(1)
        if code < 0:
            return f"its process ended with signal {signal.Signals(-code).name}"
        return f"its process ended with exit status {code}"
    return f"nothing in {seconds:.0f} s; it was killed"

"""Running the cases: one finder, one case, and what was expected where it fails."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO

from paibench.methods.conformance.cases import CaseFailed, Finder, NotApplicable, run_case
from paibench.methods.conformance.report import CASES, Outcome, Result
from paibench.methods.core.registry import UserError, did_you_mean, find, is_file, use_file
from paibench.methods.core.signature import describe


def subject(method: str) -> Finder:
    """A finder by its registered name, or as `file.py:function`.

    Raises UserError where there is none.
    """
    name = use_file(method) if is_file(method) else method
    entry = find(name)
    try:
        return Finder(name, entry.load, describe(entry).options)
    except UserError as error:
        return Finder(name, entry.load, {}, trouble=str(error))


def check(method: str, case: str) -> None:
    """Run one case. Raises AssertionError that says what was expected and what came.

    Skips the test, in pytest, where the case needs what is not here.
    """
    if case not in CASES:
        raise UserError(f"unknown case {case!r:.80}; {did_you_mean(case, CASES)}")
    try:
        run_case(subject(method), case)
    except NotApplicable as error:
        import pytest

        pytest.skip(str(error))


def results(method: str, cases: Iterable[str] = CASES) -> Iterator[Result]:
    """Run cases one after the other; what becomes of each. Raises UserError as `subject` does."""
    finder = subject(method)
    for case in cases:
        yield result(finder, case)


def result(finder: Finder, case: str) -> Result:
    """What becomes of one case."""
    started = time.perf_counter()

    def ended(outcome: Outcome, expected: str = "", came: str = "") -> Result:
        seconds = round(time.perf_counter() - started, 3)
        return Result(case, outcome, expected, came, seconds)

    try:
        run_case(finder, case)
    except NotApplicable as error:
        return ended("skipped", came=str(error))
    except CaseFailed as error:
        return ended("failed", error.expected, error.came)
    return ended("passed")


# examine: The cases in a process of their own, so that a finder that crashes or hangs fails a case.

CASE_SECONDS = 120.0
_STARTING_SECONDS = 300.0  # to import torch from a slow file system


def run_isolated(
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

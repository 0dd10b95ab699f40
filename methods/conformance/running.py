"""Running the cases: one finder, one case, and what was expected where it fails."""

import time
from collections.abc import Iterable, Iterator

from paibench.methods.conformance.cases import Departure, NotHere, Subject, run_case
from paibench.methods.conformance.names import CASES
from paibench.methods.conformance.result import Outcome, Result
from paibench.methods.registry import UserError, did_you_mean, find, is_file, use_file
from paibench.methods.signature import describe


def subject(method: str) -> Subject:
    """A finder by its registered name, or as `file.py:function`.

    Raises UserError where there is none.
    """
    name = use_file(method) if is_file(method) else method
    entry = find(name)
    try:
        return Subject(name, entry.load, describe(entry).options)
    except UserError as error:
        return Subject(name, entry.load, {}, trouble=str(error))


def check(method: str, case: str) -> None:
    """Run one case. Raises AssertionError that says what was expected and what came.

    Skips the test, in pytest, where the case needs what is not here.
    """
    if case not in CASES:
        raise UserError(f"unknown case {case!r:.80}; {did_you_mean(case, CASES)}")
    try:
        run_case(subject(method), case)
    except NotHere as error:
        import pytest

        pytest.skip(str(error))


def results(method: str, cases: Iterable[str] = CASES) -> Iterator[Result]:
    """Run cases one after the other; what becomes of each. Raises UserError as `subject` does."""
    finder = subject(method)
    for case in cases:
        yield result(finder, case)


def result(finder: Subject, case: str) -> Result:
    """What becomes of one case."""
    started = time.perf_counter()

    def ended(outcome: Outcome, expected: str = "", came: str = "") -> Result:
        seconds = round(time.perf_counter() - started, 3)
        return Result(case, outcome, expected, came, seconds)

    try:
        run_case(finder, case)
    except NotHere as error:
        return ended("skipped", came=str(error))
    except Departure as error:
        return ended("failed", error.expected, error.came)
    return ended("passed")

"""`pytest --paibench-method NAME`: the conformance cases as tests, with or without others."""

from collections.abc import Iterator
from typing import Any

import pytest

from paibench.methods.conformance import CASES, check
from paibench.methods.core.registry import UserError, find, is_file, use_file


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--paibench-method`."""
    parser.getgroup("paibench").addoption(
        "--paibench-method",
        action="append",
        default=[],
        metavar="NAME",
        help="run the conformance cases of this method, or of `file.py:function`",
    )


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the cases of the requested methods."""
    for method in config.getoption("paibench_method"):
        items.extend(_cases(session, method))


def _cases(session: pytest.Session, method: str) -> Iterator[pytest.Item]:
    try:
        # an unknown name must stop pytest before it runs a test
        find(use_file(method) if is_file(method) else method)
    except UserError as error:
        raise pytest.UsageError(f"--paibench-method {method}: {error}") from error
    for case in CASES:
        yield Conformance.from_parent(session, name=f"{method}[{case}]", method=method, case=case)


class Conformance(pytest.Item):
    """One case of one method."""

    def __init__(self, *, method: str, case: str, **options: Any) -> None:
        super().__init__(**options)
        self.method, self.case = method, case

    def runtest(self) -> None:
        """Run the case."""
        check(self.method, self.case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return one line for a failed case, and the whole traceback of any other error."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the heading of the case in a report."""
        return self.path, None, f"{self.method}: {CASES[self.case]}"

"""`pytest --paibench-method NAME`: the conformance cases as tests, with or without others."""

from collections.abc import Iterator
from typing import Any

import pytest

from paibench.methods.conformance.report import CASES
from paibench.methods.core.registry import UserError, find, is_file, use_file


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("paibench").addoption(
        "--paibench-method",
        action="append",
        default=[],
        metavar="NAME",
        help="hold this method, or `file.py:function`, to what all methods keep to",
    )


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the cases of the methods that were asked for."""
    for method in config.getoption("paibench_method"):
        items.extend(_cases(session, method))


def _cases(session: pytest.Session, method: str) -> Iterator[pytest.Item]:
    try:
        find(use_file(method) if is_file(method) else method)
    except UserError as error:
        raise pytest.UsageError(f"--paibench-method {method}: {error}") from error
    for case in CASES:
        yield Conformance.from_parent(session, name=f"{method}[{case}]", method=method, case=case)


class Conformance(pytest.Item):
    """One case over one method."""

    def __init__(self, *, method: str, case: str, **given: Any) -> None:
        super().__init__(**given)
        self.method, self.case = method, case

    def runtest(self) -> None:
        """Run the case."""
        from paibench.methods.conformance.runner import check

        check(self.method, self.case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was expected and what came; all of an error that is ours."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Where the case is from, for the report."""
        return self.path, None, f"{self.method}: {CASES[self.case]}"

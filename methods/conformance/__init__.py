"""The contract of mask finders, as cases that anyone can run on any finder.

    from paibench.methods.conformance import CASES, check

    @pytest.mark.parametrize("case", CASES)
    def test_conformance(case):
        check("mine", case)

`paibench check-method NAME` and `pytest --paibench-method NAME` run the same cases.
"""

from paibench.methods.conformance.report import CASES as CASES
from paibench.methods.conformance.report import NotApplicable
from paibench.methods.core.registry import UserError, did_you_mean


def check(method: str, case: str) -> None:
    """Run one case of a method, given by its name or as `file.py:function`.

    Raises AssertionError with what was expected and what was found. Skips the test, in pytest,
    if the case cannot run here.
    """
    from paibench.methods.conformance.cases import finder, run_case

    if case not in CASES:
        raise UserError(f"unknown case {case!r:.80}; {did_you_mean(case, CASES)}")
    try:
        run_case(finder(method), case)
    except NotApplicable as error:
        import pytest

        pytest.skip(str(error))

"""What every mask finder keeps to, as cases that anybody can run over any of them.

    from paibench.methods.conformance import CASES, check

    @pytest.mark.parametrize("case", CASES)
    def test_conformance(case):
        check("mine", case)

`paibench check-method NAME` and `pytest --paibench-method NAME` run the same cases.
"""

from paibench.methods.conformance.report import CASES as CASES


def check(method: str, case: str) -> None:
    """Run one case over a method, by its name or as `file.py:function`.

    Raises AssertionError that says what was expected and what came. Skips the test, in pytest,
    where the case needs what is not here.
    """
    from paibench.methods.conformance.runner import check

    check(method, case)

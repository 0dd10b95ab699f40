"""When a sweep is stopped because the rest of it would fail as well."""

import pytest

from paibench.benchmark.execution.pool import CircuitBreaker, CircuitBroken, Event, Outcome
from paibench.benchmark.spec import Spec
from paibench.methods.core.text import one_line

Story = list[tuple[str, Outcome, str, str]]  # method, outcome, cause, reason


def told(methods: int, story: Story) -> int | None:
    """After how many events the breaker stops, or None."""
    breaker = CircuitBreaker(methods)
    for number, (method, outcome, cause, reason) in enumerate(story, start=1):
        spec = Spec.model_validate(
            {"dataset": "digits", "model": "conv-2", "recipe": "smoke", "method": method}
        )
        try:
            breaker.check(Event(spec, outcome, 0.0, cause, reason))
        except CircuitBroken:
            return number
    return None


def failed(method: str, reason: str = "no such data set", cause: str = "input") -> Story:
    return [(method, "failed", cause, reason)]


DONE: Story = [("snip", "done", "", "")]


@pytest.mark.parametrize(
    ("methods", "story", "stops"),
    [
        pytest.param(5, failed("a") + failed("b") + failed("c"), 3, id="three methods, one reason"),
        pytest.param(1, failed("a") * 3, 3, id="the only method"),
        pytest.param(2, failed("a") * 3 + failed("b"), 4, id="both methods"),
        pytest.param(5, failed("a") * 50, None, id="one broken method of many"),
        pytest.param(3, [*failed("a", "x"), *failed("b", "y"), *failed("c", "z")], None, id="own"),
        pytest.param(9, (failed("a") + failed("b") + failed("c", "x")) * 9, None, id="no row"),
        pytest.param(1, DONE + failed("a") * 9, None, id="after a success"),
        pytest.param(1, failed("a") * 2 + DONE + failed("a") * 9, None, id="a success between"),
        pytest.param(
            4,
            [*DONE, *(failed("a", f"full: {free} bytes free", "storage")[0] for free in (3, 2, 1))],
            4,
            id="a full disk at any time",
        ),
        pytest.param(4, (failed("a", "full", "storage") * 2 + DONE) * 5, None, id="now and then"),
    ],
)
def test_stops(methods: int, story: Story, stops: int | None) -> None:
    """A sweep is stopped by what makes every run fail, not by a method that fails by itself."""
    assert told(methods, story) == stops


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\tof  it ", "two lines of it"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("x" * 10_000_000, "x" * 300),
        ("half \ud800", "half \\ud800"),
        ("é ü 漢", "é ü 漢"),
        ("", ""),
    ],
    ids=["lines", "escape", "long", "surrogate", "letters", "nothing"],
)
def test_one_line(text: str, line: str) -> None:
    """Whatever a stranger's message holds, it is one printable line of at most 300 characters."""
    assert one_line(text) == line

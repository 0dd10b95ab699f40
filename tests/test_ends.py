"""What the exit code of a worker tells."""

import signal

import pytest

from paibench.benchmark import ends
from paibench.benchmark.ends import Ends
from paibench.benchmark.hired import LEFT


@pytest.mark.parametrize(
    ("code", "cause", "says"),
    [
        (0, "error", "exit status 0 but left no record"),
        (3, "error", "exit status 3"),
        (LEFT, "killed", "exit status 143: somebody told it to leave"),
        (-signal.SIGKILL, "killed", "signal SIGKILL; the system kills for want of memory"),
        (-signal.SIGTERM, "killed", "signal SIGTERM"),
        (-signal.SIGSEGV, "crashed", "signal SIGSEGV"),
        (-signal.SIGABRT, "crashed", "signal SIGABRT"),
    ],
)
def test_why(code: int, cause: str, says: str) -> None:
    """Who leaves would leave again; who is killed would not; who crashes may."""
    assert Ends().why(code) == (cause, f"its worker ended with {says}")


def test_killed_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill that the system counts as one for memory is that, and the next one is not."""
    kills = [3, 3]
    monkeypatch.setattr(ends, "memory_kills", lambda: kills.pop(0))
    told = Ends(2)
    assert [told.why(-signal.SIGKILL)[0] for _ in range(2)] == ["memory", "killed"]

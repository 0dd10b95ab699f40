"""The sign of life that keeps claims."""

import os
from pathlib import Path

import pytest

from paibench.benchmark.execution.heartbeat import Heartbeat
from paibench.benchmark.store import lease
from paibench.methods.core.services import Interrupted


def claimed(folder: Path, seconds: float = 600) -> lease.Lease:
    folder.mkdir()
    claim = lease.acquire(folder, "me", seconds)
    assert claim is not None
    return claim


def test_held_claims_are_beaten(tmp_path: Path) -> None:
    """Every claim that is held is kept fresh, one within another too, and so is `also` called."""
    called: list[int] = []
    pulse = Heartbeat(lambda: called.append(1))
    outer, inner = (claimed(tmp_path / name, seconds=1e-6) for name in ("outer", "inner"))
    with pulse.renewing(outer), pulse.renewing(inner):
        for claim in (outer, inner):
            os.utime(claim.path, (0, 0))
        pulse()
        assert all(claim.path.stat().st_mtime > 0 for claim in (outer, inner))
    assert called == [1]
    pulse()
    assert called == [1, 1]


def test_released_whatever_happens(tmp_path: Path) -> None:
    """A claim is released when the work is done, and when it is broken off."""
    pulse = Heartbeat()
    for number, error in enumerate((None, KeyboardInterrupt)):
        claim = claimed(tmp_path / str(number))
        if error:
            with pytest.raises(error), pulse.renewing(claim):
                raise error
        else:
            with pulse.renewing(claim):
                assert claim.path.exists()
        assert not claim.path.exists()


def test_left_when_asked_and_no_sooner(tmp_path: Path) -> None:
    """Where it is safe to leave, the sign of life is given first, and then Left raised if asked."""
    asked, called = False, []
    pulse = Heartbeat(lambda: called.append(asked), should_stop=lambda: asked)
    claim = claimed(tmp_path / "run")
    with pytest.raises(Interrupted), pulse.renewing(claim):
        pulse.check_interrupt()
        asked = True
        pulse()
        assert claim.path.exists()
        pulse.check_interrupt()
    assert called == [False, True, True]
    assert not claim.path.exists()


def test_nobody_who_catches_failures_catches_left() -> None:
    """Leaving is no failure, and not what a method raises that wants to exit."""
    assert not issubclass(Interrupted, Exception | SystemExit)

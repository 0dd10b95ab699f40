"""One worker per run, mostly: a claim is respected while its owner lives, and not long after."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import StoreError, server_time
from paibench.benchmark.store.lease import LEASE_SECONDS, Lease, acquire, inspect, revoke


def age(held: Lease, seconds: float) -> None:
    """Make the last beat of a claim older, on the file server and for the owner."""
    before = held.path.stat().st_mtime - seconds
    os.utime(held.path, (before, before))
    held._renewed -= seconds


def claimed_far_away(folder: Path, owner: str) -> Lease:
    """A claim that this owner holds on another machine."""
    with pytest.MonkeyPatch.context() as there:
        there.setattr(lease, "_place", lambda: "far/boot/7")
        held = acquire(folder, owner)
    assert held is not None
    return held


@pytest.fixture
def far(tmp_path: Path) -> Lease:
    """A claim held on another machine."""
    return claimed_far_away(tmp_path, "far.1.00000000")


def test_one_of_two_gets_the_claim(tmp_path: Path) -> None:
    """A live claim is respected until it is released; nothing is left behind."""
    first = acquire(tmp_path, "a")
    assert first is not None
    assert acquire(tmp_path, "b") is None
    first.release()
    assert os.listdir(tmp_path) == []
    assert acquire(tmp_path, "b") is not None
    assert os.listdir(tmp_path) == ["claim"]


def test_a_claim_of_another_machine_lasts_as_long_as_its_lease(tmp_path: Path, far: Lease) -> None:
    """A process that cannot be looked at is given ten minutes since its last beat."""
    age(far, LEASE_SECONDS - 5)
    assert acquire(tmp_path, "b") is None
    age(far, 10)
    thief = acquire(tmp_path, "b")
    assert thief is not None
    assert os.listdir(tmp_path) == ["claim"]


def test_the_lease_is_an_argument(tmp_path: Path, far: Lease) -> None:
    """Where the caller says two seconds, two seconds it is."""
    age(far, 3)
    assert acquire(tmp_path, "b") is None
    assert acquire(tmp_path, "b", lease=2) is not None


@pytest.mark.parametrize("skew", [-3600, 3600], ids=["an hour behind", "an hour ahead"])
def test_our_own_clock_has_no_say(
    tmp_path: Path, far: Lease, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    """With a clock that is an hour off, live claims are safe and dead ones are taken."""
    off = time.time() + skew
    monkeypatch.setattr("time.time", lambda: off)
    assert acquire(tmp_path, "b") is None
    age(far, LEASE_SECONDS + 5)
    assert acquire(tmp_path, "b") is not None


def test_a_beat_keeps_the_claim(tmp_path: Path, far: Lease) -> None:
    """A claim that was beaten is live again, and beats close together do not touch the file."""
    age(far, LEASE_SECONDS + 5)
    assert far.renew()
    beaten = far.path.stat().st_mtime_ns
    assert acquire(tmp_path, "b") is None
    assert far.renew()
    assert far.path.stat().st_mtime_ns == beaten


def test_an_owner_that_lost_its_claim_leaves_the_next_one_alone(tmp_path: Path, far: Lease) -> None:
    """After a theft the old owner is told so by its beat, and its release takes nothing away."""
    age(far, LEASE_SECONDS + 5)
    thief = acquire(tmp_path, "b")
    assert thief is not None
    before = thief.path.stat().st_mtime_ns
    assert not far.renew()
    far.release()
    assert thief.path.read_bytes() == thief.text
    assert thief.path.stat().st_mtime_ns == before


def test_a_beat_or_release_of_a_claim_that_is_gone_does_no_harm(far: Lease) -> None:
    """A folder that was cleaned up does not stop a training."""
    far.path.unlink()
    far._renewed -= LEASE_SECONDS
    assert not far.renew()
    far.release()


@pytest.mark.parametrize("change", ["beaten", "taken over"])
def test_a_claim_that_came_alive_between_look_and_theft_is_put_back(
    tmp_path: Path, far: Lease, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The thief compares what it took with what it had judged, and gives it back if it differs."""
    age(far, LEASE_SECONDS + 5)
    real = lease._is_dead

    def wake(text: bytes) -> bool:
        if change == "beaten":
            os.utime(far.path)
        else:
            far.path.unlink()
            far.path.write_bytes(b"c far/boot/7 2 2 nonce\n")
        return real(text)

    monkeypatch.setattr(lease, "_is_dead", wake)
    assert acquire(tmp_path, "b") is None
    assert os.listdir(tmp_path) == ["claim"]
    assert far.path.read_bytes().startswith(b"far.1" if change == "beaten" else b"c far")


HOLD = """
import sys, time
from pathlib import Path
from paibench.benchmark.store.lease import acquire
print(acquire(Path(sys.argv[1]), "a") is not None, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_a_worker_killed_on_this_machine_blocks_nobody(tmp_path: Path, reaped: bool) -> None:
    """The claim of a process that is gone is over at once, though its lease is not."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "True\n"
        assert acquire(tmp_path, "b") is None
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        if reaped:
            assert worker.wait() == -signal.SIGKILL
        assert acquire(tmp_path, "b") is not None


def test_a_process_number_that_is_used_again_is_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim with our process number but another start is of a process that is gone."""
    with monkeypatch.context() as before:
        before.setattr(lease, "_started", lambda pid: "17")
        assert acquire(tmp_path, "a") is not None
    assert acquire(tmp_path, "b") is not None


@pytest.mark.parametrize("text", [b"", b"\xff\0", b"a b c", b"x" * 5000], ids=repr)
def test_a_claim_that_cannot_be_read_lasts_as_long_as_its_lease(
    tmp_path: Path, text: bytes
) -> None:
    """A damaged claim is of an unknown owner: respected, and over after the lease."""
    path = tmp_path / "claim"
    path.write_bytes(text)
    assert acquire(tmp_path, "b") is None
    os.utime(path, (path.stat().st_mtime - LEASE_SECONDS - 5,) * 2)
    assert acquire(tmp_path, "b") is not None


def test_a_full_disk_is_an_error_and_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the claim cannot be written, no empty one is left to block others."""

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError):
        acquire(tmp_path, "a")
    assert os.listdir(tmp_path) == []


# -- jobs -------------------------------------------------------------------------------------

BEFORE = "j7.1.far.42.00000000"


@pytest.mark.parametrize(
    ("owner", "patience"),
    [
        ("j7.2.near.43.00000001", LEASE_SECONDS / 6),
        ("j7.3.near.43.00000001", LEASE_SECONDS / 6),
        ("j7.1.near.43.00000001", LEASE_SECONDS),
        ("j7.0.near.43.00000001", LEASE_SECONDS),
        ("j8.2.near.43.00000001", LEASE_SECONDS),
        ("j77.2.near.43.00000001", LEASE_SECONDS),
        ("near.43.00000001", LEASE_SECONDS),
    ],
    ids=["requeued", "again", "same start", "earlier", "other job", "longer number", "no job"],
)
def test_a_job_does_not_wait_long_for_itself(tmp_path: Path, owner: str, patience: float) -> None:
    """What a job held before its requeue is over after a sixth of the lease; for others, not."""
    held = claimed_far_away(tmp_path, BEFORE)
    age(held, patience - 5)
    assert acquire(tmp_path, owner) is None
    age(held, 10)
    assert acquire(tmp_path, owner) is not None
    assert not held.renew()


def test_a_look_changes_nothing(tmp_path: Path, far: Lease) -> None:
    """Who holds a claim, since when it was not beaten, and whether it is over."""
    age(far, 100)
    before = far.path.stat().st_mtime_ns
    now = server_time(tmp_path)
    held = inspect(tmp_path, now)
    assert held is not None
    assert (held.owner, held.expired) == ("far.1.00000000", False)
    assert held.age == pytest.approx(100, abs=5)
    later = held._replace(age=held.age + LEASE_SECONDS, expired=True)
    assert inspect(tmp_path, now + LEASE_SECONDS) == later
    assert far.path.stat().st_mtime_ns == before
    assert os.listdir(tmp_path) == ["claim"]
    far.release()
    assert inspect(tmp_path, now) is None


@pytest.mark.parametrize(("started", "over"), [("17", True), (None, False)], ids=["gone", "ours"])
def test_a_look_at_a_process_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str | None, over: bool
) -> None:
    """The claim of a process that is gone from here is seen to be over before its lease is."""
    with monkeypatch.context() as before:
        if started is not None:
            before.setattr(lease, "_started", lambda pid: started)
        assert acquire(tmp_path, "a") is not None
    held = inspect(tmp_path, server_time(tmp_path))
    assert held is not None
    assert (held.owner, held.expired) == ("a", over)


@pytest.mark.parametrize("text", [b"", b" \n", b"\xff\0 b", b"x" * 5000], ids=repr)
def test_a_look_at_a_damaged_claim(tmp_path: Path, text: bytes) -> None:
    """A claim that cannot be read is held by somebody, and not over."""
    (tmp_path / "claim").write_bytes(text)
    held = inspect(tmp_path, server_time(tmp_path))
    assert held is not None
    assert held.owner
    assert not held.expired
    assert not revoke(tmp_path, "b")
    assert os.listdir(tmp_path) == ["claim"]


def test_an_owner_that_is_gone_is_evicted(tmp_path: Path, far: Lease) -> None:
    """Its claim is taken away at once, whatever its lease; nothing is left behind."""
    assert revoke(tmp_path, "far.1.00000000")
    assert os.listdir(tmp_path) == []
    assert not revoke(tmp_path, "far.1.00000000")
    assert acquire(tmp_path, "b") is not None


@pytest.mark.parametrize("owner", ["far.1", "far.1.0000000", "far.1.000000000", "b", "far/boot/7"])
def test_nobody_else_is_evicted(tmp_path: Path, far: Lease, owner: str) -> None:
    """A claim of another owner is left as it is, over or not."""
    age(far, LEASE_SECONDS + 5)
    assert not revoke(tmp_path, owner)
    assert far.path.read_bytes() == far.text
    assert os.listdir(tmp_path) == ["claim"]


def test_a_new_owner_is_not_evicted_for_the_old_one(
    tmp_path: Path, far: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another comes between the look and the eviction, its claim is put back."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        monkeypatch.undo()
        far.path.write_bytes(b"c far/boot/7 2 2 nonce\n")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert not revoke(tmp_path, "far.1.00000000")
    assert far.path.read_bytes().startswith(b"c ")
    assert os.listdir(tmp_path) == ["claim"]

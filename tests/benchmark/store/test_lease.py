"""Leases: one process works on a run while it lives, and another takes over after that."""

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


def make_older(held: Lease, seconds: float) -> None:
    """Make the last renewal of a lease older, on the file server and for its owner."""
    before = held.path.stat().st_mtime - seconds
    os.utime(held.path, (before, before))
    held._renewed -= seconds


def remote_lease(folder: Path, owner: str) -> Lease:
    """Return a lease that this owner holds on another machine."""
    with pytest.MonkeyPatch.context() as remote:
        remote.setattr(lease, "_process_namespace", lambda: "far/boot/7")
        held = acquire(folder, owner)
    assert held is not None
    return held


@pytest.fixture
def far(tmp_path: Path) -> Lease:
    """Return a lease that is held on another machine."""
    return remote_lease(tmp_path, "far.1.00000000")


def test_one_of_two_gets_the_lease(tmp_path: Path) -> None:
    """A live lease is respected until it is released, which leaves no file."""
    first = acquire(tmp_path, "a")
    assert first is not None
    assert acquire(tmp_path, "b") is None
    first.release()
    assert os.listdir(tmp_path) == []
    assert acquire(tmp_path, "b") is not None
    assert os.listdir(tmp_path) == ["claim"]


def test_a_lease_of_another_machine_expires_ten_minutes_after_its_renewal(
    tmp_path: Path, far: Lease
) -> None:
    """A process on another machine cannot be inspected, so the time of the file counts."""
    make_older(far, LEASE_SECONDS - 120)
    assert acquire(tmp_path, "b") is None
    make_older(far, 130)
    second = acquire(tmp_path, "b")
    assert second is not None
    assert os.listdir(tmp_path) == ["claim"]


def test_the_duration_is_an_argument(tmp_path: Path, far: Lease) -> None:
    """A caller may choose two seconds."""
    make_older(far, 3)
    assert acquire(tmp_path, "b") is None
    assert acquire(tmp_path, "b", seconds=2) is not None


@pytest.mark.parametrize("skew", [-3600, 3600], ids=["an hour behind", "an hour ahead"])
def test_our_own_clock_does_not_matter(
    tmp_path: Path, far: Lease, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    """With a clock that is an hour off, live leases are respected and expired ones are taken."""
    off = time.time() + skew
    monkeypatch.setattr("time.time", lambda: off)
    assert acquire(tmp_path, "b") is None
    make_older(far, LEASE_SECONDS + 5)
    assert acquire(tmp_path, "b") is not None


def test_a_renewal_keeps_the_lease(tmp_path: Path, far: Lease) -> None:
    """A renewed lease is live again, and frequent renewals do not touch the file."""
    make_older(far, LEASE_SECONDS + 5)
    assert far.renew()
    renewed = far.path.stat().st_mtime_ns
    assert acquire(tmp_path, "b") is None
    assert far.renew()
    assert far.path.stat().st_mtime_ns == renewed


def test_an_owner_that_lost_its_lease_leaves_the_next_one_alone(tmp_path: Path, far: Lease) -> None:
    """After a takeover `renew` returns False to the old owner, and its release removes nothing."""
    make_older(far, LEASE_SECONDS + 5)
    second = acquire(tmp_path, "b")
    assert second is not None
    before = second.path.stat().st_mtime_ns
    assert not far.renew()
    far.release()
    assert second.path.read_bytes() == second.text
    assert second.path.stat().st_mtime_ns == before


def test_renewal_and_release_of_a_removed_lease_do_no_harm(far: Lease) -> None:
    """Removing the file does not stop a training."""
    far.path.unlink()
    far._renewed -= LEASE_SECONDS
    assert not far.renew()
    far.release()


@pytest.mark.parametrize("change", ["renewed", "taken over"])
def test_a_lease_that_changes_between_inspection_and_removal_is_put_back(
    tmp_path: Path, far: Lease, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The process that removes a lease compares it with what it inspected before."""
    make_older(far, LEASE_SECONDS + 5)
    real = lease._is_dead

    def wake(text: bytes) -> bool:
        if change == "renewed":
            os.utime(far.path)
        else:
            far.path.unlink()
            far.path.write_bytes(b"c far/boot/7 2 2 nonce\n")
        return real(text)

    monkeypatch.setattr(lease, "_is_dead", wake)
    assert acquire(tmp_path, "b") is None
    assert os.listdir(tmp_path) == ["claim"]
    assert far.path.read_bytes().startswith(b"far.1" if change == "renewed" else b"c far")


HOLD = """
import sys, time
from pathlib import Path
from paibench.benchmark.store.lease import acquire
print(acquire(Path(sys.argv[1]), "a") is not None, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_a_worker_killed_on_this_machine_blocks_nobody(tmp_path: Path, reaped: bool) -> None:
    """The lease of a process that has ended expires at once."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "True\n"
        assert acquire(tmp_path, "b") is None
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        if reaped:
            assert worker.wait() == -signal.SIGKILL
        assert acquire(tmp_path, "b") is not None


def test_a_process_id_that_is_used_again_is_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease with our process id but another start time is of a process that has ended."""
    with monkeypatch.context() as before:
        before.setattr(lease, "_start_time", lambda pid: "17")
        assert acquire(tmp_path, "a") is not None
    assert acquire(tmp_path, "b") is not None


@pytest.mark.parametrize("text", [b"", b"\xff\0", b"a b c", b"x" * 5000], ids=repr)
def test_a_damaged_lease_expires_as_any_other(tmp_path: Path, text: bytes) -> None:
    """A damaged lease has an unknown owner, which is respected until it expires."""
    path = tmp_path / "claim"
    path.write_bytes(text)
    assert acquire(tmp_path, "b") is None
    os.utime(path, (path.stat().st_mtime - LEASE_SECONDS - 5,) * 2)
    assert acquire(tmp_path, "b") is not None


def test_a_full_disk_is_an_error_and_leaves_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the lease cannot be written, no empty file is left to block others."""

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError):
        acquire(tmp_path, "a")
    assert os.listdir(tmp_path) == []


# -- jobs of SLURM -------------------------------------------------------------------------------

BEFORE = "j7.1.far.42.00000000"


@pytest.mark.parametrize(
    ("owner", "lasts"),
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
def test_a_requeued_job_does_not_wait_long_for_itself(
    tmp_path: Path, owner: str, lasts: float
) -> None:
    """A lease from before the requeue expires after a sixth of the time, for that job alone."""
    held = remote_lease(tmp_path, BEFORE)
    make_older(held, lasts - 5)
    assert acquire(tmp_path, owner) is None
    make_older(held, 10)
    assert acquire(tmp_path, owner) is not None
    assert not held.renew()


def test_an_inspection_changes_nothing(tmp_path: Path, far: Lease) -> None:
    """It gives the owner, the age of the last renewal, and whether the lease has expired."""
    make_older(far, 100)
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


@pytest.mark.parametrize(
    ("started", "expired"), [("17", True), (None, False)], ids=["gone", "ours"]
)
def test_an_inspection_sees_that_a_process_of_this_machine_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str | None, expired: bool
) -> None:
    """Its lease has expired, whatever its age."""
    with monkeypatch.context() as before:
        if started is not None:
            before.setattr(lease, "_start_time", lambda pid: started)
        assert acquire(tmp_path, "a") is not None
    held = inspect(tmp_path, server_time(tmp_path))
    assert held is not None
    assert (held.owner, held.expired) == ("a", expired)


@pytest.mark.parametrize("text", [b"", b" \n", b"\xff\0 b", b"x" * 5000], ids=repr)
def test_an_inspection_of_a_damaged_lease(tmp_path: Path, text: bytes) -> None:
    """A lease that cannot be read has an owner and has not expired."""
    (tmp_path / "claim").write_bytes(text)
    held = inspect(tmp_path, server_time(tmp_path))
    assert held is not None
    assert held.owner
    assert not held.expired
    assert not revoke(tmp_path, "b")
    assert os.listdir(tmp_path) == ["claim"]


def test_the_lease_of_a_dead_owner_is_revoked(tmp_path: Path, far: Lease) -> None:
    """It is removed at once, whatever its age, and leaves no file."""
    assert revoke(tmp_path, "far.1.00000000")
    assert os.listdir(tmp_path) == []
    assert not revoke(tmp_path, "far.1.00000000")
    assert acquire(tmp_path, "b") is not None


@pytest.mark.parametrize("owner", ["far.1", "far.1.0000000", "far.1.000000000", "b", "far/boot/7"])
def test_no_other_lease_is_revoked(tmp_path: Path, far: Lease, owner: str) -> None:
    """A lease of another owner stays, even if it has expired."""
    make_older(far, LEASE_SECONDS + 5)
    assert not revoke(tmp_path, owner)
    assert far.path.read_bytes() == far.text
    assert os.listdir(tmp_path) == ["claim"]


def test_a_new_owner_is_not_revoked_for_the_old_one(
    tmp_path: Path, far: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another process takes the lease before the removal, its lease is put back."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        monkeypatch.undo()
        far.path.write_bytes(b"c far/boot/7 2 2 nonce\n")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert not revoke(tmp_path, "far.1.00000000")
    assert far.path.read_bytes().startswith(b"c ")
    assert os.listdir(tmp_path) == ["claim"]

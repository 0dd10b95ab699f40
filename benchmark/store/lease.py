"""Leases: which process works on a run now.

Leases avoid duplicate work; correctness does not depend on them. Anything may run twice, and the
commit of the record makes that harmless. A lease that its owner does not renew expires, by the
clock of the file server. If the owner's process died on this machine, it expires at once.
"""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from paibench.benchmark.store.atomic import TEMPORARY, create_once, read, server_time
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.benchmark.store.names import check_name, slurm_job_of

LEASE_SECONDS = 600.0
"""Three times as long as an NFS client may cache the times of a file, plus a slow save."""

# after a requeue, SLURM has ended the job's last start: its lease expires in this part of the time
_REQUEUED = 1 / 6

_FILE = "claim"


@dataclass(slots=True)
class Lease:
    """The lease of a run, held by this process until released or not renewed for `seconds`."""

    path: Path
    text: bytes
    seconds: float
    _renewed: float = field(default_factory=time.monotonic)

    def renew(self) -> bool:
        """Record that the work goes on; return False if another process has taken the lease.

        Cheap enough to be called at every step of a training. Call it from the loop itself, never
        from a thread: a loop that hangs must lose its lease. A process that goes on after False
        repeats the work of another one, nothing more.
        """
        # every 30 s for the usual lease; more often would only load the file server
        if time.monotonic() - self._renewed < self.seconds / 20:
            return True
        try:
            if read(self.path, limit=4096) != self.text:
                return False
            os.utime(self.path)
        except (OSError, Corrupt):
            return False
        self._renewed = time.monotonic()
        return True

    def release(self) -> None:
        """Let others have the run; do nothing if another process has taken the lease."""
        state = _state(self.path)
        if state is not None and state[0] == self.text:
            _remove(self.path, state)


def acquire(folder: Path, owner: str, seconds: float = LEASE_SECONDS) -> Lease | None:
    """Acquire the lease of the run in this folder; None if another process holds it.

    `owner` is the id of the attempt. The caller then has to look for the record once more: the
    last owner may have published it just before. Raises StoreError if nothing can be written.
    """
    path = folder / _FILE
    process = f"{_process_namespace()} {os.getpid()} {_start_time(os.getpid())}"
    # the random part makes two leases of one attempt differ when they are compared
    text = f"{check_name(owner, 'owner')} {process} {uuid4().hex} {time.time():.0f}\n".encode()
    state = _state(path)
    if state is not None and not (
        _is_expired(folder, state, owner, seconds) and _remove(path, state)
    ):
        return None
    return Lease(path, text, seconds) if create_once(path, text) == "new" else None


class LeaseInfo(NamedTuple):
    """A lease as other processes see it.

    `owner` is the id of the attempt, `since` when it acquired the lease (seconds since 1970, by
    the owner's clock), `age` the seconds since the last renewal.
    """

    owner: str
    since: float
    age: float
    expired: bool


def inspect(folder: Path, now: float) -> LeaseInfo | None:
    """Return the lease of the run in this folder; None if there is none.

    `now` is the file server's time in seconds (`atomic.server_time`).
    """
    state = _state(folder / _FILE)
    if state is None:
        return None
    words = state[0].decode(errors="replace").split() or ["?"]
    since = float(words[-1]) if words[-1].isdecimal() else state[1] / 1e9
    age = now - state[1] / 1e9
    return LeaseInfo(words[0], since, age, _is_dead(state[0]) or age > LEASE_SECONDS)


def revoke(folder: Path, owner: str) -> bool:
    """Remove the lease of an owner that is known to be gone; False if another one holds it."""
    path = folder / _FILE
    state = _state(path)
    return state is not None and state[0].split()[:1] == [owner.encode()] and _remove(path, state)


def _is_expired(folder: Path, state: tuple[bytes, int], owner: str, seconds: float) -> bool:
    """Return whether the attempt `owner` may take over the lease."""
    if _is_dead(state[0]):
        return True
    holder, ours = slurm_job_of(state[0].decode(errors="replace")), slurm_job_of(owner)
    same = holder and ours and (holder.id, holder.cluster) == (ours.id, ours.cluster)
    if same and holder and ours and holder.restart < ours.restart:
        seconds *= _REQUEUED
    return server_time(folder) - state[1] / 1e9 > seconds


def _state(path: Path) -> tuple[bytes, int] | None:
    """Return the text of a lease and the nanosecond of its last renewal; None if there is none."""
    try:
        with suppress(Corrupt):
            return read(path, limit=4096), os.lstat(path).st_mtime_ns
        # a damaged lease still protects its owner until it expires
        return b"", os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def _remove(path: Path, state: tuple[bytes, int]) -> bool:
    """Remove a lease if it is still in this state; one that is new or renewed is put back."""
    stale = path.with_name(f"{TEMPORARY}{path.name}.stale.{uuid4().hex}")
    try:
        os.rename(path, stale)  # if several processes try, one of them succeeds
    except FileNotFoundError:
        return False
    unchanged = _state(stale) == state
    if not unchanged:
        with suppress(OSError):  # a third process acquired it meanwhile: then the run is done twice
            os.link(stale, path)
    with suppress(OSError):
        os.unlink(stale)
    return unchanged


def _is_dead(text: bytes) -> bool:
    """Return whether the owner was a process of this machine that has ended."""
    match text.decode(errors="replace").split():
        case [_, namespace, pid, started, *_] if (
            namespace == _process_namespace() and pid.isdecimal()
        ):
            now = _start_time(int(pid))
            return now == "gone" or (now != started and "unknown" not in (now, started))
    return False


def _process_namespace() -> str:
    """Return host, boot and process namespace, within which a process id means one process."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return "/".join(parts)


def _start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot: process ids are used again."""
    with suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "gone" if state in "ZX" else rest[18]
    try:
        os.kill(pid, 0)  # another user's process may be hidden in /proc
    except (ProcessLookupError, OverflowError):
        return "gone"
    except PermissionError:
        pass
    return "unknown"

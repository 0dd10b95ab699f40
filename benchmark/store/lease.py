"""Who works on a run right now.

A claim saves work, it keeps nothing safe: anything may run twice, and the commit of the record
makes that harmless. A claim that nobody beats is over after its lease, by the file server's clock;
one whose process died on this machine is over at once.
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
"""Seconds: three times what an NFS client may remember a file's times for, and a long save."""

_OWN = 6  # the part of its lease after which a claim of our own job, before a requeue, is over


@dataclass(slots=True)
class Lease:
    """A run held by this process until it is released, or not beaten for `lease` seconds."""

    path: Path
    text: bytes
    lease: float
    _renewed: float = field(default_factory=time.monotonic)

    def renew(self) -> bool:
        """Say that the work goes on; cheap enough to be called at every step of the training.

        To be called from the loop itself, never from a thread: a loop that hangs must lose its
        claim. False says that the claim is lost; to go on costs a second execution, nothing more.
        """
        if time.monotonic() - self._renewed < self.lease / 20:
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
        """Let others have the run; does nothing where the claim is already another's."""
        seen = _look(self.path)
        if seen is not None and seen[0] == self.text:
            _take_away(self.path, seen)


def acquire(folder: Path, owner: str, lease: float = LEASE_SECONDS) -> Lease | None:
    """Claim the run that lives in this folder, or None where somebody else is at work on it.

    `owner` is the name of the attempt. Having got the claim, look for the record once more: the
    last owner may have published it just before. Raises StoreError where nothing can be written.
    """
    path = folder / "claim"
    process = f"{_place()} {os.getpid()} {_started(os.getpid())}"
    text = f"{check_name(owner, 'owner')} {process} {uuid4().hex} {time.time():.0f}\n".encode()
    seen = _look(path)
    if seen is not None and not (_is_over(folder, seen, owner, lease) and _take_away(path, seen)):
        return None
    return Lease(path, text, lease) if create_once(path, text) == "new" else None


class LeaseInfo(NamedTuple):
    """A claim as others see it: the attempt that owns it, when its owner got it (seconds since
    1970, by the owner's clock), how many seconds ago it was beaten, and whether it is over.
    """

    owner: str
    since: float
    age: float
    expired: bool


def inspect(folder: Path, now: float) -> LeaseInfo | None:
    """Who works on the run that lives in this folder; None where nobody does.

    `now` is the file server's time in seconds (`commit.server_time`).
    """
    seen = _look(folder / "claim")
    if seen is None:
        return None
    words = seen[0].decode(errors="replace").split() or ["?"]
    since = float(words[-1]) if words[-1].isdecimal() else seen[1] / 1e9
    age = now - seen[1] / 1e9
    return LeaseInfo(words[0], since, age, _is_dead(seen[0]) or age > LEASE_SECONDS)


def revoke(folder: Path, owner: str) -> bool:
    """Take away the claim of an owner that is known to be gone; False where it is another's."""
    path = folder / "claim"
    seen = _look(path)
    return seen is not None and seen[0].split()[:1] == [owner.encode()] and _take_away(path, seen)


def _is_over(folder: Path, seen: tuple[bytes, int], owner: str, lease: float) -> bool:
    """Whether a claim is to be respected no longer by the attempt `owner`."""
    if _is_dead(seen[0]):
        return True
    before, ours = slurm_job_of(seen[0].decode(errors="replace")), slurm_job_of(owner)
    same = before and ours and (before.id, before.cluster) == (ours.id, ours.cluster)
    requeued = same and before and ours and before.restart < ours.restart
    return server_time(folder) - seen[1] / 1e9 > (lease / _OWN if requeued else lease)


def _look(path: Path) -> tuple[bytes, int] | None:
    """A claim's text and the nanosecond of its last beat; None where there is no claim."""
    try:
        with suppress(Corrupt):
            return read(path, limit=4096), os.lstat(path).st_mtime_ns
        return b"", os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def _take_away(path: Path, seen: tuple[bytes, int]) -> bool:
    """Remove the claim that was seen; one that came or was beaten since is put back."""
    aside = path.with_name(f"{TEMPORARY}{path.name}.stale.{uuid4().hex}")
    try:
        os.rename(path, aside)  # of several thieves, one finds it
    except FileNotFoundError:
        return False
    same = _look(aside) == seen
    if not same:
        with suppress(OSError):  # a third may have claimed meanwhile: then the run is done twice
            os.link(aside, path)
    with suppress(OSError):
        os.unlink(aside)
    return same


def _is_dead(text: bytes) -> bool:
    """Whether a claim is of a process that is known to be gone from this machine."""
    match text.decode(errors="replace").split():
        case [_, place, pid, started, *_] if place == _place() and pid.isdecimal():
            now = _started(int(pid))
            return now == "gone" or (now != started and "unknown" not in (now, started))
    return False


def _place() -> str:
    """This host, boot and process namespace: where a process number means one process."""
    place = [socket.gethostname()]
    with suppress(OSError):
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return "/".join(place)


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (a number is used again, a start is not)."""
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

"""Atomic creation and replacement of files.

A file is written under a temporary name, synced, read back and then given its final name by
`link`, which fails if the name is taken, on every file system including NFS. `rename` would
silently replace the file of another writer.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

from paibench.benchmark.store.checksummed_json import Corrupt

Outcome = Literal["new", "already"]

TEMPORARY = ".tmp-"
"""The prefix of the names of unfinished files; readers ignore these."""

LIMIT = 2**20
"""The largest size of a record in bytes."""

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_TRANSIENT = {errno.ESTALE, errno.EIO}  # on NFS the next try often succeeds
_LOCK_SECONDS = 60


class StoreError(OSError):
    """A write to the store failed; the text is one line with the folder and its free bytes."""

    def __str__(self) -> str:
        return str(self.strerror)


def create_once(path: Path, data: bytes) -> Outcome:
    """Create a read-only file; return "already" and change nothing if the name is taken.

    The folder is synced before either answer. Raises StoreError, and leaves no temporary file, if
    the bytes did not arrive (disk full, quota, I/O error, faulty storage). Without hard links a
    lock file and a rename are used instead. They are weaker: a writer that sleeps for a minute
    between the two may replace another writer's file.
    """
    with _named_errors(path.parent), _temporary(path.parent, data, 0o444) as tmp:
        _read_back(tmp, data)
        outcome = _link(tmp, path)
        _sync_folder(path.parent)
    return outcome


def replace_atomic(path: Path, data: bytes) -> None:
    """Create or replace a file that only one process writes.

    A reader sees the old bytes or the new, never a mixture. Raises StoreError.
    """
    with _named_errors(path.parent), _temporary(path.parent, data, 0o644) as tmp:
        os.replace(tmp, path)
        _sync_folder(path.parent)


def read(path: Path, limit: int = LIMIT) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises Corrupt for a link, FIFO, folder, device or larger file without waiting on any of them,
    and the OSError of the system (FileNotFoundError).
    """
    # a submitted store is not trusted: a link could lead anywhere, and opening a FIFO would block
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Corrupt("not a plain file") from None
        raise
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Corrupt("not a plain file")
        if info.st_size > limit:
            raise Corrupt(f"{info.st_size} bytes; at most {limit} are read")
        data = os.read(fd, info.st_size)
        while len(data) < info.st_size and (more := os.read(fd, info.st_size - len(data))):
            data += more  # a call may return less than it was asked for
        return data
    finally:
        os.close(fd)


def server_time(folder: Path) -> float:
    """Return the time by the clock that stamps files in this folder; ours may differ from it."""
    with _named_errors(folder), _temporary(folder, b"", 0o444) as tmp:
        # without a time, utime takes that of the file server
        os.utime(tmp)
        return os.stat(tmp).st_mtime


def supports_links(folder: Path) -> bool:
    """Return whether hard links work here, by writing, linking and deleting a file.

    Raises StoreError if the folder cannot be written.
    """
    with _named_errors(folder), _temporary(folder, b"probe", 0o444) as tmp:
        second = tmp.with_name(f"{tmp.name}-link")
        try:
            os.link(tmp, second)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        os.unlink(second)
        return True


def _link(tmp: Path, path: Path, tries: int = 3) -> Outcome:
    try:
        os.link(tmp, path)
    except OSError as error:
        if os.stat(tmp).st_nlink == 2:  # the link was made, and the server's answer was lost
            return "new"
        if error.errno == errno.EEXIST:
            return "already"
        if error.errno in _NO_LINKS:
            return _rename_under_lock(tmp, path)
        if error.errno in _TRANSIENT and tries > 1:
            return _link(tmp, path, tries - 1)
        raise
    return "new"


def _rename_under_lock(tmp: Path, path: Path) -> Outcome:
    lock = path.with_name(f"{TEMPORARY}{path.name}.lock")
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        if server_time(path.parent) - os.stat(lock).st_mtime < _LOCK_SECONDS:
            raise OSError(errno.EAGAIN, "another writer holds the lock; try again") from None
    try:
        if path.name in os.listdir(path.parent):
            return "already"
        os.rename(tmp, path)
        return "new"
    finally:
        os.unlink(lock)


@contextmanager
def _temporary(folder: Path, data: bytes, mode: int) -> Iterator[Path]:
    tmp = folder / f"{TEMPORARY}{uuid4().hex}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(tmp, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield tmp
    finally:
        with suppress(OSError):
            os.unlink(tmp)


def _read_back(tmp: Path, data: bytes) -> None:
    stored = read(tmp, limit=max(LIMIT, 2 * len(data)))
    if stored != data:
        raise OSError(errno.EIO, f"wrote {len(data)} bytes, {len(stored)} came back, not the same")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(fd)


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    # an inner call, such as that for the server's time, has named the folder already
    except StoreError:
        raise
    except OSError as error:
        try:
            free = f"{shutil.disk_usage(folder).free} bytes free"
        except OSError:
            free = "free bytes unknown"
        text = f"cannot write in {str(folder)!r}: {error.strerror or error} ({free})"
        raise StoreError(error.errno, text) from error

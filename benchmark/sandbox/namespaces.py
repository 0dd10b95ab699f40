"""Linux namespaces: a process sees no other processes, no network and no foreign mounts.

Unprivileged use needs user namespaces, which some kernels forbid; root can always create them.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from paibench.benchmark.execution.process_tree import (
    become_subreaper,
    die_with_parent,
    kill_descendants,
)

_USER, _PIDS, _NETWORK, _MOUNTS, _IPC = 0x10000000, 0x20000000, 0x40000000, 0x00020000, 0x08000000
USER, PID, NETWORK, MOUNT = (f"{kind} namespace" for kind in ("user", "pid", "network", "mount"))
_NAMES = {_PIDS: PID, _NETWORK: NETWORK, _MOUNTS: MOUNT}
_PRIVATE, _RECURSIVE, _READ_ONLY = 1 << 18, 1 << 14, 1 << 0
_NO_SETUID, _NO_DEVICES = 1 << 1, 1 << 2
_DUMPABLE = 4  # an option of prctl


def enter() -> list[str]:
    """Move this process into new namespaces, and return their names.

    A new PID namespace applies to the processes that it starts next, not to itself. The process
    must have one thread only.
    """
    if sys.platform != "linux":
        return []
    if _works(_become_own_user):  # a partial success would leave a user who can read nothing
        _become_own_user()
        return [USER, *_NAMES.values()]
    _unshare(_IPC)
    return [name for kind, name in _NAMES.items() if _unshare(kind)]


def _become_own_user() -> None:
    """Enter all namespaces as a user with the same number. Raises OSError."""
    user, group = os.getuid(), os.getgid()
    if not _unshare(_USER | _PIDS | _NETWORK | _MOUNTS | _IPC):
        raise PermissionError
    # the kernel demands this before an unprivileged process may write its gid_map
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _works(trial: Callable[[], None]) -> bool:
    """Whether a function succeeds, tried in a fork."""
    child = os.fork()
    if not child:
        try:
            trial()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def remount(hidden: Sequence[Path], shared_bytes: int, processes: int) -> bool:
    """Mount a private /proc, a /dev/shm of the given size, and empty folders over hidden ones.

    The process must be in its own mount namespace. Return whether /proc is private. From Linux
    6.14 on, this also limits the number of processes and threads.
    """
    # without this, the mounts below could also appear outside
    if not _mount("none", "/", "", _RECURSIVE | _PRIVATE):
        return False
    _mount("tmpfs", "/dev/shm", "tmpfs", _NO_SETUID | _NO_DEVICES, f"size={shared_bytes}")
    for folder in hidden:
        if folder.is_dir():
            _mount("tmpfs", str(folder), "tmpfs", _READ_ONLY, "size=4k")
    if not _mount("proc", "/proc", "proc", _NO_SETUID | _NO_DEVICES):
        return False
    with suppress(OSError):
        Path("/proc/sys/kernel/pid_max").write_text(str(processes))
    return True


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid other processes of this user to read this one's memory (on Linux)."""
    if sys.platform == "linux":
        _libc().prctl(_DUMPABLE, int(dumpable), 0, 0, 0)


def fork_and_reap() -> None:
    """Fork and return in the child only; the child's descendants are killed when it ends.

    The parent exits with the status of the child, or with 128 plus the number of its signal.
    """
    become_subreaper()
    parent = os.getpid()
    child = os.fork()
    if not child:
        die_with_parent(parent)
        return
    os.closerange(3, 1 << 16)  # readers must notice when the child closes its descriptors
    ended, status = 0, 0
    while ended != child:
        ended, status = os.wait()
    kill_descendants()
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


def _unshare(kinds: int) -> bool:
    return bool(_libc().unshare(kinds) == 0)


def _mount(source: str, target: str, file_system: str, flags: int, options: str = "") -> bool:
    arguments = (text.encode() or None for text in (source, target, file_system))
    return bool(_libc().mount(*arguments, ctypes.c_ulong(flags), options.encode() or None) == 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

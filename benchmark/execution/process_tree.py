"""Child processes: their environment, their end with the parent, and what they leave behind."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "TMPDIR"),
    *("LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"),
)
_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # options of prctl
_KILL_SECONDS = 3.0  # killed processes must be gone within this time


def child_environment(threads: int) -> dict[str, str]:
    """Return the few variables that Python and CUDA need, and the number of threads.

    Methods run in such a process, so the keys and tokens of a login shell are left out.
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    share = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**passed_on, **share, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends (on Linux).

    With the number of the parent, exit at once if the parent has already ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        # 0 is a parent outside of our PID namespace
        if parent is not None and os.getppid() not in (parent, 0):
            os._exit(1)


def become_subreaper() -> None:
    """Become the parent of orphaned descendants, daemons included (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> None:
    """Kill all descendants of this process, which must be a subreaper and have no other children
    to keep."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (alive := children()) and time.monotonic() < deadline:
        for pid in alive:  # the children of a killed process become ours in the next round
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children() -> list[int]:
    """Return the processes whose parent is this process."""
    own = os.getpid()
    return [pid for pid, parent in _parents() if parent == own]


def tree(root: int) -> list[int]:
    """Return a process and its visible descendants, parents before children."""
    children_of: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children_of.setdefault(parent, []).append(pid)
    members = [root]
    for pid in members:
        members.extend(children_of.get(pid, []))
    return members


def kill_tree(root: int) -> None:
    """Kill a process and its descendants; the root last, because it adopts the orphans."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (alive := tree(root)[1:]) and time.monotonic() < deadline:
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(root, signal.SIGKILL)


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process with its parent.

    Own code rather than psutil: the sandbox needs RssAnon and RssShmem from /proc as well, which
    psutil does not report, and one more compiled dependency would save only these lines.
    """
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # the name in parentheses may itself contain spaces and parentheses
            _, parent, *_ = path.read_text().rpartition(")")[2].split()
            yield int(path.parent.name), int(parent)

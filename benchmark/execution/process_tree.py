"""Processes that a method started and left behind: adopted, and ended with the job."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SET_CHILD_SUBREAPER = 36
_SECONDS = 3.0  # in which what is killed is gone


def become_subreaper() -> None:
    """Become the parent of what descendants leave behind, daemons as well (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> None:
    """Kill all that descends from this process, for one that has no other business."""
    deadline = time.monotonic() + _SECONDS
    while (alive := children()) and time.monotonic() < deadline:
        for pid in alive:  # its own children come to us next
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children() -> list[int]:
    """The processes whose parent this one is."""
    own = os.getpid()
    return [pid for pid, parent in _parents() if parent == own]


def tree(root: int) -> list[int]:
    """A process and all that descends from it, as far as they are to be seen."""
    below: dict[int, list[int]] = {}
    for pid, parent in _parents():
        below.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(below.get(pid, []))
    return found


def kill_tree(root: int) -> None:
    """Kill a process and all that descends from it; the root last, which adopts the others."""
    deadline = time.monotonic() + _SECONDS
    while (alive := tree(root)[1:]) and time.monotonic() < deadline:
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(root, signal.SIGKILL)


def _parents() -> Iterator[tuple[int, int]]:
    """Every process with its parent."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            _, parent, *_ = path.read_text().rpartition(")")[2].split()
            yield int(path.parent.name), int(parent)

"""Processes that a method started and left behind: adopted, and ended with the job."""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_SET_CHILD_SUBREAPER = 36
_SECONDS = 3.0  # in which what is killed is gone


def adopt() -> None:
    """Become the parent of what descendants leave behind, daemons as well (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def end_descendants() -> None:
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
    ours = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            _, parent, *_ = path.read_text().rpartition(")")[2].split()
            if int(parent) == os.getpid():
                ours.append(int(path.parent.name))
    return ours

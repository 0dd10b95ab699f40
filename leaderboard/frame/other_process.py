"""Other processes for the work on large boards.

They are started as modules, because multiprocessing would run the user's own script again ("spawn")
or copy its threads ("fork").
"""

import os
import subprocess
import sys
from contextlib import suppress


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def output_of(module: str, *arguments: str, given: bytes = b"") -> bytes | None:
    """Return what a module writes that runs in another process and reads the bytes `given`.

    None if the process cannot be started or fails, for example because it has too little memory.
    """
    if not sys.executable:
        return None
    command = [sys.executable, "-P", "-m", module, *arguments]
    with suppress(OSError, subprocess.CalledProcessError):
        process = subprocess.run(
            command, input=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        return process.stdout
    return None

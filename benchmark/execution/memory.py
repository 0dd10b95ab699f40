"""Memory of the machine and of this process: what is free, a limit, kills when it runs out."""

import os
import re
import resource
from contextlib import suppress
from pathlib import Path


def available_mb() -> int:
    """Return the MiB that new programs can use; the size of memory if the system does not say."""
    with suppress(OSError):
        if match := re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text()):
            return int(match[1]) >> 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def limit_memory(megabytes: int) -> None:
    """Limit the memory of this process, in MiB, so that exceeding it raises MemoryError.

    Linux counts private writable memory. Use the limit on the CPU only: CUDA reserves much more
    address space than it fills.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = megabytes * 2**20
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def memory_kills() -> int:
    """Return how many processes of this control group the system killed when memory ran out."""
    for folder in _control_groups():
        for name in ("memory.events", "memory.oom_control"):
            try:
                words = (folder / name).read_text().split()
            except OSError:
                continue
            if "oom_kill" in words:
                return int(words[words.index("oom_kill") + 1])
    return 0


def _control_groups() -> list[Path]:
    """Return the folders of the control groups (v2 or v1) that limit this process's memory."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    root = Path("/sys/fs/cgroup")
    return [
        root / ("memory" if kinds else "") / path.lstrip("/")
        for _, kinds, path in parts
        if kinds in ("", "memory")
    ]

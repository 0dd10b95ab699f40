"""A limit on the memory of this process, so that want of memory is an error and not a kill."""

import resource
from pathlib import Path


def limit_memory(megabytes: int) -> None:
    """Let this process hold so many MiB at the most; more is refused as MemoryError.

    What counts is memory of its own that it can write to, as far as Linux sees it. It is for work
    on the CPU: on a GPU, address space is taken that is never filled.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = megabytes * 2**20
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def memory_kills() -> int:
    """How many processes of this control group the system has killed for want of memory."""
    for folder in _groups():
        for name in ("memory.events", "memory.oom_control"):
            try:
                words = (folder / name).read_text().split()
            except OSError:
                continue
            if "oom_kill" in words:
                return int(words[words.index("oom_kill") + 1])
    return 0


def _groups() -> list[Path]:
    """The folders of the control groups that limit this process's memory, v2 or v1."""
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

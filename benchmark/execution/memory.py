"""The most memory that one run has held: of the device, or of the process on the CPU."""

import os
import re
import resource
from contextlib import suppress
from pathlib import Path

import torch

_SELF = Path("/proc/self")
_RESET_PEAK = "5"  # what Linux takes for it in clear_refs


def reset_peak(device: torch.device) -> None:
    """Forget the peaks of earlier runs in this process, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        (_SELF / "clear_refs").write_text(_RESET_PEAK)


def peak(device: torch.device) -> float:
    """The most memory in MiB since the peaks were forgotten."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+) kB", (_SELF / "status").read_text()):
            return int(found[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def available_mb() -> int:
    """MiB that the machine could still give to programs; all that it has where it does not say."""
    with suppress(OSError):
        if found := re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text()):
            return int(found[1]) >> 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20

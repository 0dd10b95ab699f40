"""The device of a run: set up for arithmetic that gives the same bits, and its peak memory."""

import ctypes
import os
import re
import resource
from contextlib import suppress
from pathlib import Path

import torch

from paibench.methods.core.registry import UserError


def setup_device(name: str, threads: int) -> torch.device:
    """Return the device after setting the number of threads and deterministic algorithms.

    Raises UserError if the machine does not have the device.
    """
    torch.set_num_threads(threads)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r:.80} is unknown; use cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name!r}: no such GPU here; `paibench doctor` lists them")
        # CUDA reads this when it starts, which is when the first tensor is created
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    elif device.type != "cpu":
        raise UserError(f"device {name!r} is not supported; use cpu, cuda or cuda:N")
    return device


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak of earlier runs in this process, if the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError, AttributeError):  # other C libraries have no `malloc_trim`
        # Memory that earlier runs freed, but that the C library kept, would count as used.
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # 5 resets VmHWM, see proc(5)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB since the last reset: of the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        if match := re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()):
            return int(match[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

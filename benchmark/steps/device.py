"""Where a run is done, and the device there made ready for arithmetic that can be repeated."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from paibench.methods.core.registry import UserError


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run is done; recorded, and no part of what is run."""

    device: str = "cpu"
    threads: int = 1
    data: Path | None = None
    memory_mb: int | None = None
    """The most MiB that the process may hold, for the note of a run that wants more."""
    trusted: bool = False
    """Whether third parties' methods are run in this process, as our own are."""
    search_seconds: float | None = None
    """The most seconds that a search of theirs may take; None for `Limits.seconds`."""


def setup_device(place: RunSettings) -> torch.device:
    """The device of a place, its threads set and its arithmetic made repeatable.

    Raises UserError when it is not there.
    """
    torch.set_num_threads(place.threads)
    try:
        device = torch.device(place.device)
    except RuntimeError:
        raise UserError(
            f"device {place.device!r:.80} is unknown; use cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"device {place.device!r}: no such GPU here; `paibench doctor` lists them"
            )
        # read when CUDA starts, which is not before the first tensor is there
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    elif device.type != "cpu":
        raise UserError(f"device {place.device!r} is not supported; use cpu, cuda or cuda:N")
    return device

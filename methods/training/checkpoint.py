"""Checkpoint a training so that a later process resumes it bit for bit."""

import hashlib
import io
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from paibench.methods.training.loop import Checkpoint, Trainer
from paibench.methods.training.services import Interrupted, Services

RELATIVE_PAUSE = 50
"""The pause after a checkpoint is at least this multiple of the time that saving it took,"""
LONGEST_PAUSE = 30
"""but at most this multiple of the pause that was asked for."""
_FORMAT = 5


class Checkpointer:
    """Saves and resumes one training through services.

    `description` is everything that decides the steps besides the trainer's own state. Create the
    checkpointer before the first step.
    """

    def __init__(self, trainer: Trainer, services: Services, description: str = "") -> None:
        self._trainer = trainer
        self._services = services
        masked = digest(trainer.mask) if trainer.mask is not None else "dense"
        state = digest(trainer.module.state_dict())
        # the number of threads changes the order of sums, and with it the last bits
        machine = f"{torch.get_num_threads()} threads {services.origin}"
        self._fingerprint = f"{_FORMAT} {state} {masked} {machine} {description}"
        self._seconds = services.checkpoint_seconds or 0.0
        self._due = time.perf_counter() + self._seconds

    def resume(self) -> tuple[int, Any] | None:
        """Restore the last checkpoint into the trainer; return its step and its extra data.

        Return None if there is no checkpoint, or if it belongs to another training.
        """
        if (data := self._services.load()) is None:
            return None
        # weights_only: nothing in the file is executed, even though it is our own
        saved: dict[str, Any] = torch.load(
            io.BytesIO(data), map_location=self._trainer.device, weights_only=True
        )
        if saved.get("fingerprint") != self._fingerprint:
            # other hardware, threads, code or data would give other bits
            print(
                "paibench: checkpoint ignored: different hardware, data or code; restarting",
                file=sys.stderr,
            )
            return None
        return self._trainer.restore(cast(Checkpoint, saved["checkpoint"])), saved["extra"]

    def after_step(
        self, take: Callable[[], Checkpoint], extra: Callable[[], Any] = lambda: None
    ) -> None:
        """Give a heartbeat, and save a checkpoint if one is due or the process must stop.

        `take` returns the checkpoint, and `extra` plain data that `resume` returns with it. Raises
        Interrupted after saving, and StoreError.
        """
        interrupted: Interrupted | None = None
        try:
            self._services.heartbeat()
        except Interrupted as error:
            interrupted = error
        start = time.perf_counter()
        if interrupted or start >= self._due:
            checkpoint = take()
            buffer = io.BytesIO()
            torch.save(
                {"fingerprint": self._fingerprint, "checkpoint": checkpoint, "extra": extra()},
                buffer,
            )
            self._services.save(buffer.getvalue(), checkpoint["step"])
            # a slow file system must not take more than a small share of the time
            spent = time.perf_counter() - start
            pause = min(max(self._seconds, RELATIVE_PAUSE * spent), LONGEST_PAUSE * self._seconds)
            self._due = start + spent + pause
        if interrupted:
            raise interrupted


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of named tensors: names, types, shapes and bytes, sorted by name."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()

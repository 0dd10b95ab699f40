"""Keeping a training, so that whoever comes after goes on from there with the same bits."""

import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch

from paibench.benchmark.provenance import digest, kind_of_place
from paibench.benchmark.pulse import Left
from paibench.methods.loop import Checkpoint, Save, Trainer
from paibench.methods.task import Keep

CHECKPOINT_SECONDS = 20.0
SHARE = 50  # between two checkpoints lies so many times what the last one took,
RAREST = 30  # but not more than so many times what was asked for
_FORM = 4  # of what is saved


@dataclass
class Keeper:
    """Where checkpoints go: `save(bytes)` and `load() -> bytes | None`, at most so often.

    Once `leaving()` is true, a training is saved after the step that it is at, and Left is raised.
    """

    save: Callable[[bytes], None]
    load: Callable[[], bytes | None]
    seconds: float = CHECKPOINT_SECONDS
    leaving: Callable[[], bool] = lambda: False
    _due: float = 0.0

    def take_up(self, trainer: Trainer, begin: str) -> tuple[int, Any] | None:
        """Put a trainer where the last checkpoint was taken: the step, and what was kept with it.

        None without one, or where it began otherwise (see `begin_of`).
        """
        self._due = time.perf_counter() + self.seconds
        data = self.load()
        if data is None:
            return None
        # weights_only: nothing in the file is executed, even though it is our own
        plain: dict[str, Any] = torch.load(
            io.BytesIO(data), map_location=trainer.device, weights_only=True
        )
        if plain.get("begin") != begin:
            # another processor, other threads, other code or data: other bits
            said = "paibench: what was kept is of another kind of machine or other code: begun anew"
            print(said, file=sys.stderr)
            return None
        return trainer.restore(cast(Checkpoint, plain["checkpoint"])), plain["also"]

    def offer(
        self,
        take: Callable[[], Checkpoint],
        begin: str,
        tell: Callable[[int], object],
        also: Any = None,
    ) -> None:
        """Save a training now if it is time to, and tell the step. Raises Left, StoreError."""
        leaving, now = self.leaving(), time.perf_counter()
        if leaving or now >= self._due:
            checkpoint = take()
            buffer = io.BytesIO()
            torch.save({"begin": begin, "checkpoint": checkpoint, "also": also}, buffer)
            self.save(buffer.getvalue())
            tell(checkpoint["step"])
            took = time.perf_counter() - now
            self._due = now + took + min(max(self.seconds, SHARE * took), RAREST * self.seconds)
        if leaving:
            raise Left


def begin_of(trainer: Trainer, also: str = "") -> str:
    """All that decides the bits of a training, as one line; `also` is what its trainer holds not.

    To be asked before the first step.
    """
    masked = digest(trainer.mask) if trainer.mask is not None else "dense"
    state = digest(trainer.module.state_dict())
    return f"{_FORM} {state} {masked} {kind_of_place(trainer.device)} {also}"


def keep_with(keeper: Keeper, origin: str, tell: Callable[[int], object]) -> Keep:
    """How the trainings of a search are kept and taken up again; `tell` hears at which step.

    `origin` is the data and the code that a checkpoint must come from to be gone on from.
    """

    def keep(trainer: Trainer, also: str) -> tuple[int | None, Save]:
        begin = begin_of(trainer, f"{origin} {also}")
        found = keeper.take_up(trainer, begin)

        def save(take: Callable[[], Checkpoint]) -> None:
            keeper.offer(take, begin, tell)

        return found[0] if found else None, save

    return keep

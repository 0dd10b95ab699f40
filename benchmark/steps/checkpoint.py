"""Two alternating checkpoint files of a run; the newest whole one counts."""

import hashlib
import io
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from paibench.benchmark.steps.environment import digest, kind_of_place
from paibench.benchmark.store.atomic import read, replace_atomic
from paibench.methods.core.services import Interrupted
from paibench.methods.core.task import Keep
from paibench.methods.training.loop import Checkpoint, Save, Trainer

_DIGEST = 32
_LARGE = 2**36


@dataclass
class CheckpointSlot:
    """Checkpoints of what is at work, in the folder of the claim that it is done under.

    Whoever has that claim next goes on from there.
    """

    own: Path
    _files: "Checkpoints | None" = None

    @contextmanager
    def inside(self, folder: Path) -> Iterator[None]:
        """Work under another claim for a while; what was kept goes when that comes to its end."""
        outer, self._files = self._files, Checkpoints(folder / "checkpoints")
        inner = self._files
        try:
            yield
            inner.clear()
        finally:
            self._files = outer

    def save(self, data: bytes) -> None:
        """See `Checkpoints.save`."""
        self._there().save(data)

    def load(self) -> bytes | None:
        """See `Checkpoints.load`."""
        return self._there().load()

    def _there(self) -> "Checkpoints":
        self._files = self._files or Checkpoints(self.own)
        return self._files


@dataclass
class Checkpoints:
    """The checkpoints of one run, in a folder that only the owner of its claim writes to."""

    folder: Path
    _number: int = 0

    def save(self, data: bytes) -> None:
        """Keep `data` in place of the older of the two files. Raises StoreError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number = (self._number or self._newest()[0]) + 1
        body = self._number.to_bytes(8, "big") + data
        name = "ab"[self._number % 2] + ".pt"
        replace_atomic(self.folder / name, hashlib.sha256(body).digest() + body)

    def load(self) -> bytes | None:
        """The newest data that is whole, or None."""
        self._number, data = self._newest()
        return data

    def clear(self) -> None:
        """Remove both files and the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest(self) -> tuple[int, bytes | None]:
        """The number and the data of the newest file that is whole; 0 and None without one."""
        found: list[tuple[int, bytes | None]] = [(0, None)]
        for name in ("a.pt", "b.pt"):
            with suppress(OSError, ValueError):
                data = read(self.folder / name, _LARGE)
                if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                    number = int.from_bytes(data[_DIGEST : _DIGEST + 8], "big")
                    found.append((number, data[_DIGEST + 8 :]))
        return max(found, key=lambda file: file[0])


# keeping: Keeping a training, so that whoever comes after goes on from there with the same bits.

CHECKPOINT_SECONDS = 20.0
SHARE = 50  # between two checkpoints lies so many times what the last one took,
RAREST = 30  # but not more than so many times what was asked for
_FORM = 4  # of what is saved


@dataclass
class Checkpointer:
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
            raise Interrupted


def fingerprint(trainer: Trainer, also: str = "") -> str:
    """All that decides the bits of a training, as one line; `also` is what its trainer holds not.

    To be asked before the first step.
    """
    masked = digest(trainer.mask) if trainer.mask is not None else "dense"
    state = digest(trainer.module.state_dict())
    return f"{_FORM} {state} {masked} {kind_of_place(trainer.device)} {also}"


def keep_with(keeper: Checkpointer, origin: str, tell: Callable[[int], object]) -> Keep:
    """How the trainings of a search are kept and taken up again; `tell` hears at which step.

    `origin` is the data and the code that a checkpoint must come from to be gone on from.
    """

    def keep(trainer: Trainer, also: str) -> tuple[int | None, Save]:
        begin = fingerprint(trainer, f"{origin} {also}")
        found = keeper.take_up(trainer, begin)

        def save(take: Callable[[], Checkpoint]) -> None:
            keeper.offer(take, begin, tell)

        return found[0] if found else None, save

    return keep

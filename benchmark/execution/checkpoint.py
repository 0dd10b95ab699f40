"""Checkpoint files of a run: two that alternate, of which the newest intact one counts."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from paibench.benchmark.store.atomic import read, replace_atomic

_DIGEST_BYTES = 32
_NUMBER_BYTES = 8
_LARGEST = 2**36


@dataclass
class Checkpoints:
    """The checkpoints of one training, in a folder that only the owner of its lease writes to."""

    folder: Path
    _number: int = 0

    def save(self, data: bytes) -> None:
        """Replace the older of the two files. Raises StoreError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # a new process continues the numbers of the last attempt, or its files would look older
        self._number = (self._number or self._newest()[0]) + 1
        body = self._number.to_bytes(_NUMBER_BYTES, "big") + data
        # the newest file stays intact if the process is killed while it writes
        replace_atomic(self.folder / self._name(self._number), hashlib.sha256(body).digest() + body)

    def load(self) -> bytes | None:
        """Return the newest data that is intact, or None."""
        self._number, data = self._newest()
        return data

    def clear(self) -> None:
        """Remove both files and the folder."""
        # the newest last: nobody may take the older one for where the work stands
        number = self._number or self._newest()[0]
        with suppress(OSError):
            (self.folder / self._name(number + 1)).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _name(number: int) -> str:
        """Return the name of the file that holds the checkpoint of this number."""
        return "ab"[number % 2] + ".pt"

    def _newest(self) -> tuple[int, bytes | None]:
        """Return the number and the data of the newest intact file; 0 and None without one."""
        intact: list[tuple[int, bytes | None]] = [(0, None)]
        for name in ("a.pt", "b.pt"):
            with suppress(OSError, ValueError):
                data = read(self.folder / name, _LARGEST)
                body = data[_DIGEST_BYTES:]
                if hashlib.sha256(body).digest() == data[:_DIGEST_BYTES]:
                    number = int.from_bytes(body[:_NUMBER_BYTES], "big")
                    intact.append((number, body[_NUMBER_BYTES:]))
        return max(intact, key=lambda file: file[0])


class CheckpointSlot:
    """The checkpoints of the innermost lease that a search currently works under.

    A stage that several runs share has its own lease; its checkpoints lie beside that lease, so
    that whichever run holds it next resumes the stage.
    """

    def __init__(self, folder: Path) -> None:
        self._current = Checkpoints(folder)

    @contextmanager
    def inside(self, folder: Path) -> Iterator[None]:
        """Use the folder of another lease in this block; its checkpoints go when it succeeds."""
        outer, self._current = self._current, Checkpoints(folder / "checkpoints")
        inner = self._current
        try:
            yield
            # not in `finally`: whoever computes an interrupted stage resumes from these files
            inner.clear()
        finally:
            self._current = outer

    def save(self, data: bytes) -> None:
        """See `Checkpoints.save`."""
        self._current.save(data)

    def load(self) -> bytes | None:
        """See `Checkpoints.load`."""
        return self._current.load()

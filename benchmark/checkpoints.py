"""Two alternating checkpoint files of a run; the newest whole one counts."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from paibench.benchmark.commit import read, replace

_DIGEST = 32
_LARGE = 2**36


@dataclass
class Desk:
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
        replace(self.folder / name, hashlib.sha256(body).digest() + body)

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

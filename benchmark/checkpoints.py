"""Two alternating checkpoint files of a run; the newest whole one counts."""

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paibench.benchmark.commit import read, replace

_DIGEST = 32
_LARGE = 2**36


@dataclass
class Checkpoints:
    """The checkpoints of one run, in a folder that only the owner of its claim writes to."""

    folder: Path
    _number: int = 0

    def save(self, data: bytes) -> None:
        """Keep `data` in place of the older of the two files. Raises StoreError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number = max([self._number, *(number for number, _ in self._there())]) + 1
        body = self._number.to_bytes(8, "big") + data
        name = "ab"[self._number % 2] + ".pt"
        replace(self.folder / name, hashlib.sha256(body).digest() + body)

    def load(self) -> bytes | None:
        """The newest data that is whole, or None."""
        return max(self._there(), default=(0, None))[1]

    def clear(self) -> None:
        """Remove both files and the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _there(self) -> list[tuple[int, bytes]]:
        found = []
        for name in ("a.pt", "b.pt"):
            with suppress(OSError, ValueError):
                data = read(self.folder / name, _LARGE)
                if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                    number = int.from_bytes(data[_DIGEST : _DIGEST + 8], "big")
                    found.append((number, data[_DIGEST + 8 :]))
        return found

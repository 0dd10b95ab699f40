"""How far an attempt is, for those who look from outside: a small file in its folder."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from paibench.benchmark.store.atomic import read, replace_atomic
from paibench.benchmark.store.checksummed_json import Corrupt

EVERY = 1.0  # seconds between two notes


@dataclass
class Progress:
    """The stages of its search that an attempt has behind it, and the steps of its training.

    `searched` is the step at which a training within its search was kept last, `begun` the step of
    its own training that it went on from, `waited` the second in which it waited last for what
    another run computes, `started` that in which it began. It is written down not more often than
    once a second, since the file system is shared.
    """

    folder: Path | None = None
    stages: int = 0
    begun: int = 0
    step: int = 0
    steps: int = 0
    searched: int = 0
    waited: int = 0
    started: int = field(default_factory=lambda: int(time.time()))
    _noted: float = field(default_factory=time.monotonic)

    def stage(self) -> None:
        """One more stage is there, computed or found."""
        self.stages += 1
        self._note()

    def wait(self) -> None:
        """Another run computes what this one waits for."""
        self.waited = int(time.time())
        self._note()

    def search(self, step: int) -> None:
        """A training of the search was kept at `step`."""
        self.searched = step
        self._note()

    def train(self, step: int, steps: int) -> None:
        """Training is at `step` of `steps`."""
        self.begun = self.begun if self.steps else step
        self.step, self.steps = step, steps
        self._note()

    def _note(self) -> None:
        if time.monotonic() - self._noted >= EVERY:
            self.save()

    def save(self) -> None:
        """Write it down now; a file system that fails is not the matter of this."""
        self._noted = time.monotonic()
        facts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        if self.folder:
            with suppress(OSError):
                replace_atomic(self.folder / "headway.json", json.dumps(facts).encode())

    @property
    def fingerprint(self) -> tuple[int, int, int, int]:
        """Something that changes while the attempt gets on, or others do what it waits for."""
        return self.step, self.stages, self.searched, self.waited

    def __str__(self) -> str:
        if self.steps:
            return f"{100 * self.step / self.steps:.0f} % of its training"
        return f"in its search, {self.stages} stages done" if self.stages else "in its search"


def read_progress(folder: Path) -> Progress:
    """How far the attempt of this folder came, as far as it said."""
    with suppress(OSError, Corrupt, ValueError, TypeError, AttributeError):
        facts = json.loads(read(folder / "headway.json")).items()
        return Progress(None, **{name: int(number) for name, number in facts})
    return Progress()

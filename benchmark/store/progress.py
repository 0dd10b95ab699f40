"""The progress file of an attempt, read by `paibench status`."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from paibench.benchmark.store.atomic import read, replace_atomic
from paibench.benchmark.store.checksummed_json import Corrupt

EVERY = 1.0  # seconds between two writes; the file system is shared

_FILE = "headway.json"


@dataclass
class Progress:
    """How many stages of its search and steps of its training an attempt has done.

    `begun` is the step at which the attempt resumed the training, `searched` the step at which a
    training inside the search was last saved. `waited` is the time (seconds since 1970) at which
    the attempt last waited for a stage that another run computes, `started` that of its start.
    """

    folder: Path | None = None
    stages: int = 0
    begun: int = 0
    step: int = 0
    steps: int = 0
    searched: int = 0
    waited: int = 0
    started: int = field(default_factory=lambda: int(time.time()))
    _saved: float = field(default_factory=time.monotonic)

    def stage(self) -> None:
        """Count one more stage, computed or found in the store."""
        self.stages += 1
        self._save_if_due()

    def wait(self) -> None:
        """Note that this run waits for a stage that another one computes."""
        self.waited = int(time.time())
        self._save_if_due()

    def search(self, step: int) -> None:
        """Note that a training inside the search was saved at `step`."""
        self.searched = step
        self._save_if_due()

    def train(self, step: int, steps: int) -> None:
        """Note that the training is at `step` of `steps`."""
        # `steps` is 0 until the first call, which comes when the training starts or resumes
        self.begun = self.begun if self.steps else step
        self.step, self.steps = step, steps
        self._save_if_due()

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the file now. Best effort: errors are ignored, since progress is only shown."""
        self._saved = time.monotonic()
        # the folder and the monotonic clock mean nothing to another process
        values = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        if self.folder:
            with suppress(OSError):
                replace_atomic(self.folder / _FILE, json.dumps(values).encode())

    @property
    def fingerprint(self) -> tuple[int, int, int, int]:
        """A value that changes whenever the attempt progresses or waits for another that does."""
        return self.step, self.stages, self.searched, self.waited

    def __str__(self) -> str:
        if self.steps:
            return f"{100 * self.step / self.steps:.0f} % of its training"
        return f"in its search, {self.stages} stages done" if self.stages else "in its search"


def read_progress(folder: Path) -> Progress:
    """Return the progress of the attempt in this folder; that of a new one if it is unreadable."""
    with suppress(OSError, Corrupt, ValueError, TypeError, AttributeError):
        values = json.loads(read(folder / _FILE)).items()
        return Progress(None, **{name: int(number) for name, number in values})
    return Progress()

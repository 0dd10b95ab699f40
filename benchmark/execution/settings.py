"""How and where runs are executed: part of the record, but not of the spec."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunSettings:
    """One set of settings from the command line or a job down to the sandbox of a search.

    The command line builds it once. A pool passes it to its workers as JSON.
    """

    device: str = "cpu"
    threads: int = 1
    data: Path | None = None
    """Folder of the data sets that are not part of the package."""
    memory_mb: int | None = None
    """The most MiB that one run may hold."""
    trusted: bool = False
    """Whether third-party methods run in the process of the run, without a sandbox."""
    search_seconds: float | None = None
    """The most seconds for a search in a sandbox; None for the sandbox's own limit."""
    checkpoint_seconds: float = 20.0
    """Seconds of training between two checkpoints."""
    method_files: tuple[str, ...] = ()
    """Methods that are not installed, each as `file.py:function`."""
    jobs: int = 1
    """Number of worker processes of a pool."""
    time_limit: float | None = None
    """The most seconds for one run; a pool kills a worker that needs more."""
    grace_seconds: float = 5.0
    """Time in which workers save their runs after they are asked to stop."""
    wait_seconds: float = math.inf
    """How long an idle pool waits for runs that other processes hold."""

    def to_json(self) -> str:
        """Return the settings as one line of JSON."""
        return json.dumps(asdict(self) | {"data": self.data and str(self.data)})

    @classmethod
    def from_json(cls, text: str) -> "RunSettings":
        """Return the settings that `to_json` wrote."""
        fields = json.loads(text)
        data, files = fields["data"], tuple(fields["method_files"])
        return cls(**fields | {"data": data and Path(data), "method_files": files})

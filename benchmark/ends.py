"""Why a worker ended: by its exit code, and by what the system says it killed."""

import signal
from dataclasses import dataclass, field

from paibench.benchmark.failures import Cause
from paibench.benchmark.hired import LEFT
from paibench.benchmark.memory_limit import memory_kills


@dataclass
class Ends:
    """Tells the ends of workers, one after the other."""

    _kills: int = field(default_factory=memory_kills)

    def why(self, code: int) -> tuple[Cause, str]:
        """The cause of a worker's end, and a line about it."""
        reason = f"its worker ended with {words(code)}"
        if code == LEFT:
            return "killed", f"{reason}: somebody told it to leave"
        if code >= 0:  # who leaves would leave again
            return "error", reason + (" but left no record" if code == 0 else "")
        if -code not in (signal.SIGKILL, signal.SIGTERM):
            return "crashed", reason
        before, self._kills = self._kills, memory_kills()
        if self._kills > before:
            return "memory", f"{reason}: the system killed it for want of memory"
        hint = "; the system kills for want of memory" if code == -signal.SIGKILL else ""
        return "killed", f"{reason}{hint}"


def words(code: int) -> str:
    """An exit code as people say it."""
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

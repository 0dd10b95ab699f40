"""The sign of life of a process: the claims that it holds stay its own while its work gets on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from paibench.benchmark.store.lease import Lease


class Interrupted(BaseException):
    """The process is to end now, and what it was at is kept to go on from.

    Not SystemExit: that is what a method raises which calls `sys.exit`.
    """


@dataclass
class Heartbeat:
    """Call it whenever the work progresses: it renews every held lease, then calls `also`."""

    also: Callable[[], object] = lambda: None
    should_stop: Callable[[], bool] = lambda: False
    _held: list[Lease] = field(default_factory=list)

    def __call__(self) -> None:
        for claim in self._held:
            claim.renew()
        self.also()

    def check_interrupt(self) -> None:
        """Renew the leases, then raise Interrupted if the process is asked to stop."""
        self()
        if self.should_stop():
            raise Interrupted

    @contextmanager
    def renewing(self, claim: Lease) -> Iterator[None]:
        """Keep a claim alive for a while, and release it after that, whatever happens."""
        self._held.append(claim)
        try:
            yield
        finally:
            self._held.remove(claim)
            claim.release()

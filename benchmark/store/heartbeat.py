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
    """To be called whenever the work gets on: beats every claim that is held, then calls `also`."""

    also: Callable[[], object] = lambda: None
    leaving: Callable[[], bool] = lambda: False
    _held: list[Lease] = field(default_factory=list)

    def __call__(self) -> None:
        for claim in self._held:
            claim.beat()
        self.also()

    def or_leave(self) -> None:
        """The same where nothing is lost by leaving right now: raises Left once that is asked."""
        self()
        if self.leaving():
            raise Interrupted

    @contextmanager
    def holding(self, claim: Lease) -> Iterator[None]:
        """Keep a claim alive for a while, and release it after that, whatever happens."""
        self._held.append(claim)
        try:
            yield
        finally:
            self._held.remove(claim)
            claim.release()

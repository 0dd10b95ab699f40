"""The heartbeat of a process: it keeps the leases that the process holds while work progresses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from paibench.benchmark.store.lease import Lease
from paibench.methods.core.services import Interrupted


@dataclass
class Heartbeat:
    """Renews every lease that is held, and calls `on_beat`, whenever the work progresses."""

    on_beat: Callable[[], object] = lambda: None
    should_stop: Callable[[], bool] = lambda: False
    _leases: list[Lease] = field(default_factory=list)

    def __call__(self) -> None:
        for lease in self._leases:
            lease.renew()
        self.on_beat()

    def check_interrupt(self) -> None:
        """Beat, then raise Interrupted if the process must stop."""
        self()
        if self.should_stop():
            raise Interrupted

    @contextmanager
    def renewing(self, lease: Lease) -> Iterator[None]:
        """Keep a lease alive in this block, and release it at the end, whatever happens."""
        self._leases.append(lease)
        try:
            yield
        finally:
            self._leases.remove(lease)
            lease.release()

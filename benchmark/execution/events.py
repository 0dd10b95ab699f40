"""What a pool says of its runs, and when the rest of them is not worth trying."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from paibench.benchmark.spec import Spec

Outcome = Literal["done", "already", "failed"]
BREAKER = 3


@dataclass(frozen=True)
class Event:
    """What became of a run; a failed one has a cause and a reason of one line."""

    spec: Spec
    outcome: Outcome
    seconds: float
    cause: str = ""
    reason: str = ""


class CircuitBroken(RuntimeError):
    """The runs fail for one reason that is not their own, so the rest was not tried."""


@dataclass
class CircuitBreaker:
    """Watches for what makes every run fail: no data, a full disk, a broken installation.

    A method that fails by itself does not stop the others: before a first success the same
    reason must come in a row from `BREAKER` methods, or from all where there are fewer. A store
    that cannot be written stops a sweep at any time.
    """

    methods: int
    _succeeded: bool = False
    _reason: str = ""
    _failed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, specs: Sequence[Spec]) -> "CircuitBreaker":
        """A breaker for these runs."""
        return cls(len({spec.method.name for spec in specs}))

    def watch(self, event: Event) -> None:
        """Raise Broken when this event shows that the rest will fail as well."""
        storage = event.cause == "storage"
        reason = "storage" if storage else event.reason
        if reason != self._reason:
            self._reason, self._failed = reason, []
        if event.outcome != "failed":
            self._succeeded = True
        elif storage or not self._succeeded:
            self._failed.append(event.spec.method.name)
        wanted = 1 if storage else min(BREAKER, self.methods)
        if len(self._failed) >= BREAKER and len(set(self._failed)) >= wanted:
            raise CircuitBroken(f"{len(self._failed)} runs in a row failed: {event.reason}")

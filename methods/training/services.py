"""What a search may ask of the program that runs it: stages, checkpoints, a heartbeat, a count."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # workers and sandboxes import this module before they can wait for torch
    from torch import Tensor

State = dict[str, "Tensor"]
Compute = Callable[[], State]
COST, SECONDS = "cost.examples", "cost.seconds"
"""The entries of a stored stage with the forward and backward examples, and the time, it cost."""


class Interrupted(BaseException):
    """The process must end now; its work is saved, or nothing is lost.

    It is not a SystemExit, which a method raises when it calls `sys.exit`.
    """


@dataclass
class Cost:
    """Examples that a search has passed forward and backward through the network."""

    forward: int = 0
    backward: int = 0


class Services:
    """The services of one search; this class stores nothing, which suits a notebook.

    The harness passes a subclass that works with the store, and the sandbox one that asks the
    harness. `find_stage(name, compute)` returns a stored stage, or computes and stores it.
    """

    origin = ""
    """The data, code and machine that a checkpoint must come from to be resumed."""
    checkpoint_seconds: float | None = None
    """Seconds between two checkpoints; None if nothing is saved."""

    def __init__(
        self, find_stage: Callable[[str, Compute], State] = lambda name, compute: compute()
    ) -> None:
        self.cost = Cost()
        self.seconds_elsewhere = 0.0
        """What a clock misses of the search: stages that another run computed, less waiting."""
        self._find_stage = find_stage

    def count(self, forward: int, backward: int) -> None:
        """Add examples that passed forward and backward."""
        self.cost.forward += forward
        self.cost.backward += backward

    def memo(self, name: str, compute: Compute) -> State:
        """Return the stage of this name, computed unless it is stored.

        A stored stage counts as many examples, and as much time, as computing it did, so that the
        cost of a search does not depend on what ran before it.
        """
        import torch

        # a copy, because `count` changes the cost in place
        before, clock, elsewhere = replace(self.cost), perf_counter(), self.seconds_elsewhere

        def with_cost() -> State:
            own_clock = perf_counter()
            state = dict(compute())
            spent = self.cost.forward - before.forward, self.cost.backward - before.backward
            seconds = perf_counter() - own_clock + self.seconds_elsewhere - elsewhere
            time = torch.tensor(seconds, dtype=torch.float64)
            return state | {COST: torch.tensor(spent), SECONDS: time}

        state = dict(self._find_stage(name, with_cost))
        forward, backward = state.pop(COST).tolist()
        # set and not added, because a computed stage has already counted its examples
        self.cost = Cost(before.forward + forward, before.backward + backward)
        # a clock around the search counts the time that this call took, computed or found
        self.seconds_elsewhere = elsewhere + float(state.pop(SECONDS)) - (perf_counter() - clock)
        return state

    def heartbeat(self) -> None:
        """Report that the search progresses. Raises Interrupted if the process must stop."""

    def load(self) -> bytes | None:
        """Return the last checkpoint, if there is one."""
        return None

    def save(self, data: bytes, step: int) -> None:
        """Save a checkpoint of a training at `step`."""

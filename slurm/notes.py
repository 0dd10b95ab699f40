"""What is noted of an attempt that its job did not let come to an end."""

import time

from paibench.benchmark import failures
from paibench.benchmark.headway import read_headway
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.fate import Fate

STUCK = 2  # time limits in a row without any headway
SHORT = 5.0  # seconds in which nobody has to get on


def note_end(store: Store, spec: Spec, attempt: str, fate: Fate, at_work: int = 1) -> None:
    """Note why an attempt ended, how far it had come, and what it might have held.

    `at_work` attempts shared the memory of their job. One that time limits found twice in the same
    place is `stuck`. Raises StoreError.
    """
    headway = read_headway(store.attempt_folder(spec.key, attempt))
    far = list(headway.far)
    cause, reason = fate.cause, fate.reason
    if cause == "limit":
        reason = f"{reason} at step {far[0]}"
        had_time = time.time() - headway.started >= SHORT
        if had_time and _limits_at(store, spec.key, far) + 1 >= STUCK:
            cause = "stuck"
            reason = f"{STUCK} time limits in a row found it at step {far[0]}; give jobs more time"
    share = fate.memory_mb // at_work if fate.memory_mb else None
    failures.note(store, spec, attempt, cause, reason, memory_mb=share, far=far)


def _limits_at(store: Store, key: str, far: list[int]) -> int:
    """How many time limits in a row, up to the last, found a run where it is now."""
    count = 0
    for note in reversed(store.failures(key)):
        if note.get("cause") != "limit" or note.get("far") != far:
            break
        count += 1
    return count

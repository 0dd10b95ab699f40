"""Leaving a job early: why, what is noted of the runs that were at work, and how to end."""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from paibench.benchmark import failures
from paibench.benchmark.headway import read_headway
from paibench.benchmark.naming import Job, this_job
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.fate import Fate, ask_now, own_number

AGAIN = 75  # EX_TEMPFAIL: not done, and nobody's fault
_GRACE = 900.0  # seconds after which one who waits to be killed gives up waiting
_STUCK = 2  # time limits in a row without any headway


def leave(store: Store, left: Sequence[tuple[Spec, str]], *, of_time: bool) -> int:
    """Note why the runs in `left` (with their attempts) were interrupted; the exit status.

    After the warning before the time limit the job asks to be requeued. One that is preempted waits
    to be killed, since SLURM does not requeue what ends by itself.
    """
    restart = (this_job() or Job(0, 0)).restart
    fate = Fate("limit", "its job reached its time limit") if of_time else ask_now(restart)
    for spec, attempt in left:
        _note(store, spec, attempt, fate)
    print(f"paibench: left with {len(left)} runs unfinished: {fate.reason}", file=sys.stderr)
    sys.stderr.flush()
    if of_time:
        return _requeue()
    if fate.cause == "preempted":
        time.sleep(_GRACE)
    return AGAIN


def _note(store: Store, spec: Spec, attempt: str, fate: Fate) -> None:
    far = list(read_headway(store.attempt_folder(spec.key, attempt)).far)
    cause = fate.cause
    reason = f"{fate.reason} at step {far[0]}"
    if cause == "limit" and _times_at(store, spec.key, far) + 1 >= _STUCK:
        cause = "stuck"
        reason = f"{_STUCK} time limits in a row found it at step {far[0]}; give its jobs more time"
    failures.note(store, spec, attempt, cause, reason, far=far)


def _times_at(store: Store, key: str, far: list[int]) -> int:
    """How many time limits in a row, up to the last, found a run where it is now."""
    count = 0
    notes: list[dict[str, Any]] = store.failures(key)
    for note in reversed(notes):
        if note.get("cause") != "limit" or note.get("far") != far:
            break
        count += 1
    return count


def _requeue() -> int:
    """Put this job back into the queue; where that is refused, the next `submit` does it."""
    command = ["scontrol", "requeue", own_number()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        print(f"paibench: not requeued: {done.stderr.strip()}", file=sys.stderr)
        return AGAIN
    return 0

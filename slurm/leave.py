"""Leaving a job early: why, what is noted of the runs that were at work, and how to end."""

import sys
import time
from collections.abc import Sequence

from paibench.benchmark.naming import Job, this_job
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.ask import complaint
from paibench.slurm.fate import Fate, ask_now, own_number
from paibench.slurm.notes import note_end

AGAIN = 75  # EX_TEMPFAIL: not done, and nobody's fault
_GRACE = 900.0  # seconds after which one who waits to be killed gives up waiting


def leave(
    store: Store, left: Sequence[tuple[Spec, str]], *, of_time: bool, got_on: bool = True
) -> int:
    """Note why the runs in `left` (with their attempts) were interrupted; the exit status.

    After the warning before the time limit the job asks to be requeued, unless it has not even
    begun a run. One that is preempted waits to be killed, since SLURM does not requeue what ends
    by itself.
    """
    restart = (this_job() or Job(0, 0)).restart
    fate = Fate("limit", "its job reached its time limit") if of_time else ask_now(restart)
    for spec, attempt in left:
        note_end(store, spec, attempt, fate)
    print(f"paibench: left with {len(left)} runs unfinished: {fate.reason}", file=sys.stderr)
    sys.stderr.flush()
    if of_time and got_on:
        return _requeue()
    if fate.cause == "preempted":
        time.sleep(_GRACE)
    return AGAIN


def _requeue() -> int:
    """Put this job back into the queue; where that is refused, the next `submit` does it."""
    if words := complaint("scontrol", "requeue", own_number(), seconds=60):
        print(f"paibench: not requeued: {words}", file=sys.stderr)
        return AGAIN
    return 0

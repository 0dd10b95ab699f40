"""Why an attempt ended without a record, and whether the run is tried again."""

import socket
import time
from typing import Any, Literal, get_args

from paibench.benchmark.record import PROTOCOL
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.records import SCHEMA
from paibench.benchmark.store.store import Store

Cause = Literal[
    "error", "plugin", "input", "memory", "storage", "killed", "crashed", "time", "stuck"
]
"""What ended a failed attempt.

`plugin`: the method broke its contract. `killed`: a signal from outside. `crashed`: any other
signal. `time`: the time limit of one run. `stuck`: the time limit of a job, twice without progress.
"""

Interruption = Literal["preempted", "cancelled", "requeued", "node", "limit", "lost"]
"""What ended an attempt that did not fail: another one resumes its run.

`limit`: the time limit of its job. `lost`: nothing more is known.
"""

# the other causes would repeat themselves: a run is seeded, so it raises the same error again
RETRIED = ("killed", "crashed", "time", "storage", "input")
OWN_FAULT = ("crashed", "time")  # probably, but not certainly, the fault of the run itself
MOST_ATTEMPTS = 5
MOST_OWN_FAULTS = 3


def record_failure(
    store: Store,
    spec: Spec,
    attempt: str,
    cause: Cause | Interruption,
    reason: str,
    *,
    memory_mb: int | None = None,
    **facts: Any,
) -> None:
    """Write to the store why an attempt ended without a record. Raises StoreError.

    A failure also becomes the run's last one. An interruption does not, since it says nothing
    about the run. `memory_mb` is the memory limit of the attempt.
    """
    interrupted = cause in get_args(Interruption)
    store.publish_failure(
        spec.key,
        attempt,
        {
            "schema": SCHEMA,
            "protocol": PROTOCOL,
            "spec": spec.canonical,
            "status": "interrupted" if interrupted else "failed",
            "cause": cause,
            "reason": reason,
            "host": socket.gethostname(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **({"memory_mb": memory_mb} if memory_mb else {}),
            **facts,
        },
        last=not interrupted,
    )


def is_unfinished(store: Store, key: str, attempt: str) -> bool:
    """Return whether the store knows no end of an attempt, neither a failure nor a record."""
    ended = any(failure.get("attempt") == attempt for failure in store.failures(key))
    return not ended and not store.is_done(key)


def is_final(store: Store, key: str, memory_mb: int | None = None) -> bool:
    """Return whether a failed run is not tried again unless the user asks for it.

    A run that needed more memory is tried again if `memory_mb` is more than it had.
    """
    last = store.last_failure(key) or {}
    if last.get("cause") == "memory":
        return memory_mb is None or memory_mb <= last.get("memory_mb", memory_mb)
    causes = [failure.get("cause") for failure in store.failures(key)]
    # missing input is for the user to provide, and may take any number of attempts
    tried = sum(cause in RETRIED and cause != "input" for cause in causes)
    own = sum(cause in OWN_FAULT for cause in causes)
    exhausted = tried >= MOST_ATTEMPTS or own >= MOST_OWN_FAULTS
    return last.get("cause", "error") not in RETRIED or exhausted

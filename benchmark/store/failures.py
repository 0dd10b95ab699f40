"""Why an attempt gave no record, and whether the run is worth another."""

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
"""What ended a failed attempt. `plugin` is the method's own fault, `killed` came from outside,
`crashed` did not; `time` is over the limit of one run, `stuck` twice over that of a job."""

Interruption = Literal["preempted", "cancelled", "requeued", "node", "limit", "lost"]
"""What ended an attempt that did not fail: its run goes on from where it was kept. `limit` is the
time limit of its job; `lost` is said where nobody can say more."""

# A seeded run that raised, or that wants more memory than there is, would do so again.
TRIED_AGAIN = ("killed", "crashed", "time", "storage", "input")
OWN_FAULT = ("crashed", "time")
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
    """Keep in the store why an attempt ended without a record. Raises StoreError.

    A failure is also kept as the run's last, beside the place of the record; an interruption is
    not, since it says nothing of the run. `memory_mb` is what the attempt might hold.
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
    """Whether an attempt has come to no end that is in the store."""
    ended = any(note.get("attempt") == attempt for note in store.failures(key))
    return not ended and not store.is_done(key)


def is_final(store: Store, key: str, memory_mb: int | None = None) -> bool:
    """Whether a failed run is left alone until somebody asks for it.

    With `memory_mb`, what failed for want of memory is tried again where it had less.
    """
    last = store.last_failure(key) or {}
    if last.get("cause") == "memory":
        return memory_mb is None or memory_mb <= last.get("memory_mb", memory_mb)
    causes = [note.get("cause") for note in store.failures(key)]
    tried = sum(cause in TRIED_AGAIN and cause != "input" for cause in causes)
    own = sum(cause in OWN_FAULT for cause in causes)
    worn_out = tried >= MOST_ATTEMPTS or own >= MOST_OWN_FAULTS
    return last.get("cause", "error") not in TRIED_AGAIN or worn_out

"""Why an attempt gave no record, and whether the run is worth another."""

import socket
import time
from typing import Literal

from paibench.benchmark.record import PROTOCOL, SCHEMA
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

Cause = Literal["error", "input", "memory", "storage", "killed", "time"]

# A seeded run that raised, or that wants more memory than there is, would do so again.
TRIED_AGAIN = ("killed", "time", "storage", "input")
MOST_ATTEMPTS = 5


def note(store: Store, spec: Spec, attempt: str, cause: Cause, reason: str) -> None:
    """Keep a failure in the store, beside the place of the record. Raises StoreError."""
    store.note_failure(
        spec.key,
        attempt,
        {
            "schema": SCHEMA,
            "protocol": PROTOCOL,
            "spec": spec.canonical,
            "status": "failed",
            "cause": cause,
            "reason": reason,
            "host": socket.gethostname(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )


def is_final(store: Store, key: str) -> bool:
    """Whether a failed run is left alone until somebody asks for it."""
    last = store.last_failure(key) or {}
    tried = sum(note.get("cause") != "input" for note in store.failures(key))
    return last.get("cause", "error") not in TRIED_AGAIN or tried >= MOST_ATTEMPTS

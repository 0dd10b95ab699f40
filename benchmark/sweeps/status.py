"""The state of the runs of a sweep, read from the store: done, running, failed or missing."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import StoreError, server_time
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.progress import Progress, read_progress
from paibench.benchmark.store.store import Store


@dataclass(frozen=True)
class Running:
    """A run in progress: its attempt, when it started (seconds since 1970), its progress."""

    attempt: str
    since: float
    progress: Progress

    @property
    def host(self) -> str:
        """The host on which it runs."""
        # counted from the end, because an attempt in a job of SLURM has two more parts in front
        return self.attempt.split(".")[-3] if self.attempt.count(".") > 1 else "?"


@dataclass(frozen=True)
class Failed:
    """The last failure of a run, whether it is not tried again, and the path of its log."""

    cause: str
    reason: str
    final: bool
    log: Path


@dataclass(frozen=True)
class SweepStatus:
    """Runs by key; each run is in exactly one of the four."""

    done: frozenset[str]
    running: dict[str, Running]
    failed: dict[str, Failed]
    missing: frozenset[str]


def sweep_status(store: Store, keys: Iterable[str]) -> SweepStatus:
    """Return the state of these runs. Only the file system is asked, and nothing is changed."""
    requested, listing = frozenset(keys), store.listing()
    done = requested & listing.done
    # asking for the time of the file server writes a file, so it is asked only about open runs
    now = _now(store) if requested - done else 0.0
    running = {
        key: run for key in requested - done if (run := _running(store, key, now)) is not None
    }
    # a run that failed before may be running again
    failed = {key: _failed(store, key) for key in (requested & listing.failed) - running.keys()}
    return SweepStatus(done, running, failed, requested - done - running.keys() - failed.keys())


def _running(store: Store, key: str, now: float) -> Running | None:
    info = lease.inspect(store.run_folder(key), now)
    if info is None or info.expired:
        return None
    try:
        progress = read_progress(store.attempt_folder(key, info.owner))
    except ValueError:  # a damaged lease names no attempt
        progress = Progress()
    return Running(info.owner, info.since, progress)


def _failed(store: Store, key: str) -> Failed:
    last: dict[str, Any] = store.last_failure(key) or {}
    attempt = str(last.get("attempt", ""))
    log = store.run_folder(key) / "attempts" / attempt / "log.txt"
    cause, reason = str(last.get("cause", "?")), str(last.get("reason", "?"))
    return Failed(cause, reason, is_final(store, key), log)


def _now(store: Store) -> float:
    """Return the time of the file server, or ours if the store is read-only to us."""
    if os.access(store.root, os.W_OK):
        try:
            return server_time(store.root)
        except StoreError:
            pass
    return time.time()

"""A folder of runs on any file system, shared by any number of writers and readers.

The record file is the only proof that a run is done. It is published last, the first valid one
wins, and nobody overwrites it.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import (
    LIMIT,
    TEMPORARY,
    Outcome,
    create_once,
    read,
    replace_atomic,
    server_time,
)
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.layout import SHARDS, check, prepare
from paibench.benchmark.store.names import check_key, check_name, is_key
from paibench.benchmark.store.records import (
    NewerSchema,
    Problem,
    StoredRecord,
    Validate,
    check_hash,
    check_record,
    hashed_name,
    parse,
    publish_or_quarantine,
    quarantine,
    quarantine_if_corrupt,
    read_entry,
)

_LARGE = 2**34  # bytes; a mask or a cached stage may be much larger than a record
_DAY = 86_400.0


class Listing(NamedTuple):
    """The keys of the runs that have a record, and of those that have only failures."""

    done: frozenset[str]
    failed: frozenset[str]


@dataclass(frozen=True)
class Store:
    """A store at an absolute path.

    `links`: whether its file system supports hard links; commits are weaker without them.
    """

    root: Path
    links: bool = True

    @classmethod
    def open(cls, root: Path | str, create: bool = True) -> "Store":
        """Return a store to write to, after a trial write; create it if there is none.

        Raises UserError if the folder cannot be a store, or is none and `create` is False.
        """
        path = Path(root).absolute()
        return cls(path, prepare(path, create))

    @classmethod
    def read(cls, root: Path | str) -> "Store":
        """Return a store to read from, writing nothing. Raises UserError if there is none."""
        path = Path(root).absolute()
        check(path)
        return cls(path)

    def record_path(self, key: str) -> Path:
        """Return the path of a run's record. Raises UserError for what is not a key."""
        return self.root / "runs" / check_key(key)[:2] / f"{key}.json"

    def run_folder(self, key: str) -> Path:
        """Return the folder of a run's mask, curve, attempts, checkpoints and lease."""
        return self.record_path(key).with_suffix("")

    # -- which runs are done ---------------------------------------------------------------------

    def listing(self) -> Listing:
        """Return which runs are done and which failed, from one folder listing per shard."""
        done, failed = set(), set()
        for shard, names in self._shards():
            for name in names:
                key, _, kind = name.partition(".")
                if key.startswith(shard) and is_key(key):
                    if kind == "json":
                        done.add(key)
                    elif kind == "failed":
                        failed.add(key)
        return Listing(frozenset(done), frozenset(failed - done))

    def is_done(self, key: str) -> bool:
        """Return whether a run has a record."""
        path = self.record_path(key)
        # a network file system may remember for a minute that a file is not there; a listing is new
        return path.name in _names(path.parent)

    def attempted_keys(self) -> frozenset[str]:
        """Return the keys of all runs that have a folder: done, failed, running or interrupted."""
        return frozenset(name for _, names in self._shards() for name in names if is_key(name))

    def acquire_lease(
        self, key: str, attempt: str, seconds: float = lease.LEASE_SECONDS
    ) -> lease.Lease | None:
        """Acquire the lease of a run; None if the run is done or another process holds it."""
        folder = self.run_folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        acquired = lease.acquire(folder, attempt, seconds)
        if acquired and self.is_done(key):  # the last owner published while we were waiting
            acquired.release()
            return None
        return acquired

    # -- records ---------------------------------------------------------------------------------

    def publish_record(
        self, key: str, record: dict[str, Any], attempt: str, volatile: Collection[str] = ()
    ) -> Outcome:
        """Publish the record that makes a run done; the first valid one wins.

        If another valid one is there and differs in fields that are not volatile, ours is kept in
        the attempt's `divergence.json`. A damaged one is moved to quarantine and replaced by ours.
        Raises ValueError for a record that could not be read back, StoreError.
        """
        path, data = self.record_path(key), encode(record)
        check_record(key, record)
        if len(data) > LIMIT:
            raise ValueError(f"the record of {key} has {len(data)} bytes; at most {LIMIT} are read")
        outcome = publish_or_quarantine(path, data, self._validator(key), self._quarantine)
        if outcome == "new":
            # best effort, because a run with a record is done whether or not it failed before
            with suppress(OSError):
                os.unlink(path.with_suffix(".failed"))
            return outcome
        with suppress(NewerSchema):
            other = self.read_record(key)
            fields = {name for name in {*record, *other} if record.get(name) != other.get(name)}
            if differing := sorted(fields - set(volatile)):
                divergence = encode({"fields": differing, "record": record})
                create_once(self._attempt(key, attempt) / "divergence.json", divergence)
        return outcome

    def read_record(self, key: str) -> dict[str, Any]:
        """Return the record of a run.

        Raises FileNotFoundError if there is none, Corrupt if it cannot be trusted, and NewerSchema
        (a Corrupt) if its schema is later than this program.
        """
        return parse(key, read(self.record_path(key)))

    def records(self, shards: Collection[str] = SHARDS) -> Iterator[StoredRecord | Problem]:
        """Yield the records of these shards in the order of their keys, damaged ones as problems.

        Nothing is changed.
        """
        for shard, names in self._shards(shards):
            folder = self.root / "runs" / shard
            for name in sorted(names):
                if name.endswith(".json") and not name.startswith("."):
                    with suppress(FileNotFoundError):  # its owner moved it just now
                        yield read_entry(folder / name)

    def quarantine(self, key: str) -> bool:
        """Move a damaged record to quarantine, so that the run is done again.

        Only the owner of the run may call this. Returns False if the record is sound, has a later
        schema, or is not there.
        """
        path, validate = self.record_path(key), self._validator(key)
        return self.is_done(key) and quarantine_if_corrupt(path, validate, self._quarantine)

    # -- files beside a record -------------------------------------------------------------------

    def publish_file(self, key: str, name: str, data: bytes) -> str:
        """Publish a file of a run before its record; return the name for the record to hold.

        "mask.safetensors" becomes "mask-<16 digits of its sha256>.safetensors": if two attempts
        have different bytes, both files are kept and each record names its own.
        """
        full = check_name(hashed_name(name, data), "file name")
        path = self.run_folder(key) / full
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_or_quarantine(
            path, data, lambda path: check_hash(full, read(path, _LARGE)), self._quarantine
        )
        return full

    def read_file(self, key: str, full: str) -> bytes:
        """Return the bytes of a file that a record names. Raises FileNotFoundError, Corrupt."""
        data = read(self.run_folder(key) / check_name(full, "file name"), _LARGE)
        check_hash(full, data)
        return data

    # -- stages of searches that several runs share ------------------------------------------------

    def stage_path(self, scope: str, name: str) -> Path:
        """Return the path of a shared stage. Raises UserError for an unsafe name."""
        shard = check_name(scope, "scope")[:2]
        return self.root / "stages" / shard / scope / f"{check_name(name, 'stage')}.safetensors"

    def publish_stage(self, scope: str, name: str, data: bytes) -> Outcome:
        """Publish a stage; the first one wins. Raises StoreError."""
        path = self.stage_path(scope, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return create_once(path, data)

    def read_stage(self, scope: str, name: str) -> bytes | None:
        """Return the bytes of a stage, or None if nobody has published it."""
        try:
            return read(self.stage_path(scope, name), _LARGE)
        except FileNotFoundError:
            return None

    def discard_stage(self, scope: str, name: str) -> None:
        """Move a stage whose content proved to be damaged to quarantine."""
        with suppress(FileNotFoundError):
            quarantine(self.stage_path(scope, name), self._quarantine)

    def publish_sweep(self, name: str, sweep: dict[str, Any]) -> Outcome:
        """Publish the runs of a sweep under its id. Raises StoreError."""
        return create_once(self.root / "sweeps" / f"{name}.json", encode(sweep))

    # -- attempts and failures -------------------------------------------------------------------

    def attempts(self, key: str) -> list[str]:
        """Return the ids of all attempts at a run, sorted."""
        return sorted(_names(self.run_folder(key) / "attempts"))

    def attempt_folder(self, key: str, attempt: str) -> Path:
        """Return the folder of one attempt's log, progress, failure and divergence."""
        return self.run_folder(key) / "attempts" / check_name(attempt, "attempt")

    def publish_failure(
        self, key: str, attempt: str, failure: dict[str, Any], last: bool = True
    ) -> None:
        """Publish why an attempt failed, with `key` and `attempt` added, in the attempt's folder.

        If it is the run's `last` failure, it is also written beside the path of the record, where
        one folder listing shows it. Raises StoreError.
        """
        data = encode({**failure, "key": key, "attempt": attempt})
        create_once(self._attempt(key, attempt) / "failure.json", data)
        if last:
            replace_atomic(self.record_path(key).with_suffix(".failed"), data)

    def last_failure(self, key: str) -> dict[str, Any] | None:
        """Return why a run failed the last time; None if it did not, or the file is damaged."""
        with suppress(FileNotFoundError, Corrupt):
            return decode(read(self.record_path(key).with_suffix(".failed")))
        return None

    def failures(self, key: str) -> list[dict[str, Any]]:
        """Return why the attempts at a run failed, the latest last; damage is given as `reason`."""
        failures = []
        for attempt in self.attempts(key):
            path = self.attempt_folder(key, attempt) / "failure.json"
            with suppress(FileNotFoundError, NotADirectoryError):
                when = os.lstat(path).st_mtime_ns
                try:
                    failure = decode(read(path))
                except Corrupt as error:
                    failure = {"key": key, "attempt": attempt, "reason": f"unreadable: {error}"}
                failures.append((when, attempt, failure))
        return [failure for _, _, failure in sorted(failures, key=lambda each: each[:2])]

    def remove_temporary_files(self, older: float = _DAY) -> int:
        """Remove unfinished files whose writers died over `older` seconds ago; return how many."""
        before, removed = server_time(self.root) - older, 0
        for folder, _, names in os.walk(self.root):
            for path in (Path(folder, name) for name in names if name.startswith(TEMPORARY)):
                with suppress(OSError):  # another process removed it, or it is not ours
                    if os.lstat(path).st_mtime < before:
                        os.unlink(path)
                        removed += 1
        return removed

    # -- helpers ---------------------------------------------------------------------------------

    def _shards(self, shards: Collection[str] = SHARDS) -> Iterator[tuple[str, list[str]]]:
        for shard in shards:
            yield shard, _names(self.root / "runs" / shard)

    def _validator(self, key: str) -> Validate:
        return lambda path: parse(key, read(path))

    @property
    def _quarantine(self) -> Path:
        return self.root / "quarantine"

    def _attempt(self, key: str, attempt: str) -> Path:
        folder = self.attempt_folder(key, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []

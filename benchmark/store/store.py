"""The store: a folder of runs on any file system, shared by any number of writers and readers.

The record file is the only proof that a run is done. It is published last, first come first
served, and never overwritten; whoever wants to know asks for a listing of its folder.
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
from paibench.benchmark.store.names import check_key, check_name, is_key, new_attempt_id
from paibench.benchmark.store.records import (
    NewerSchema,
    Problem,
    StoredRecord,
    check_hash,
    entry,
    hashed_name,
    parse,
    publish_or_quarantine,
    quarantine,
    quarantine_if_corrupt,
)

_LARGE = 2**34
_DAY = 86_400.0


class Listing(NamedTuple):
    """The keys of the runs that have a record, and of those that have only failures."""

    done: frozenset[str]
    failed: frozenset[str]


@dataclass(frozen=True)
class Store:
    """A store at an absolute path; `links` is False where commits are weaker, for want of links."""

    root: Path
    links: bool = True

    @classmethod
    def open(cls, root: Path | str, create: bool = True) -> "Store":
        """A store to write to, made where there is none; tried out before any work starts.

        Raises UserError where the folder cannot be one, or is none and `create` is False.
        """
        path = Path(root).absolute()
        return cls(path, prepare(path, create))

    @classmethod
    def read(cls, root: Path | str) -> "Store":
        """A store to read from; nothing is written. Raises UserError where there is none."""
        path = Path(root).absolute()
        check(path)
        return cls(path)

    def record_path(self, key: str) -> Path:
        """Where the record of a run is or will be. Raises UserError for what is not a key."""
        return self.root / "runs" / check_key(key)[:2] / f"{key}.json"

    def run_folder(self, key: str) -> Path:
        """Where mask, curves, attempts, checkpoints and the claim of a run are."""
        return self.record_path(key).with_suffix("")

    # -- which runs are done ---------------------------------------------------------------------

    def listing(self) -> Listing:
        """The runs that are done and that failed, by one folder listing per shard."""
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
        """Whether a run has a record; asked by a listing, since a look-up may be out of date."""
        path = self.record_path(key)
        return path.name in _names(path.parent)

    def acquire_lease(
        self, key: str, attempt: str, seconds: float = lease.LEASE_SECONDS
    ) -> lease.Lease | None:
        """Claim a run, or None where it is done or somebody else is at work on it."""
        folder = self.run_folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        held = lease.acquire(folder, attempt, seconds)
        if held and self.is_done(key):  # its last owner was quicker
            held.release()
            return None
        return held

    # -- records ---------------------------------------------------------------------------------

    def publish_record(
        self, key: str, record: dict[str, Any], attempt: str, volatile: Collection[str] = ()
    ) -> Outcome:
        """Make a run done; the first valid record wins.

        Where a valid one is there already and differs in fields that are not volatile, ours goes
        to the attempt's `divergence.json`. A broken one is moved to quarantine, and ours
        published. Raises ValueError for a record that could not be read back, StoreError.
        """
        path, data = self.record_path(key), encode(record)
        ours = parse(key, data)
        if len(data) > LIMIT:
            raise ValueError(f"the record of {key} has {len(data)} bytes; at most {LIMIT} are read")
        outcome = publish_or_quarantine(
            path, data, lambda there: parse(key, read(there)), self._quarantine
        )
        if outcome == "new":
            with suppress(OSError):
                os.unlink(path.with_suffix(".failed"))
            return outcome
        with suppress(NewerSchema):
            theirs = self.read_record(key)
            fields = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
            if differing := sorted(fields - set(volatile)):
                note = encode({"fields": differing, "record": ours})
                create_once(self._attempt(key, attempt) / "divergence.json", note)
        return outcome

    def read_record(self, key: str) -> dict[str, Any]:
        """The record of a run, without its seal.

        Raises FileNotFoundError where there is none, Corrupt where it cannot be trusted, Newer (a
        Corrupt) where its schema is later than this program.
        """
        return parse(key, read(self.record_path(key)))

    def records(self, shards: Collection[str] = SHARDS) -> Iterator[StoredRecord | Problem]:
        """Every record in the order of the keys, broken ones as problems; nothing is changed.

        Of some shards alone, where they are named.
        """
        for shard, names in self._shards(shards):
            folder = self.root / "runs" / shard
            for name in sorted(names):
                if name.endswith(".json") and not name.startswith("."):
                    with suppress(FileNotFoundError):  # its owner moved it away just now
                        yield entry(folder / name)

    def quarantine(self, key: str) -> bool:
        """Move a record that cannot be trusted aside, so that the run is to be done again.

        For the owner of the run. False where the record is sound, of a later schema, or not there.
        """
        path = self.record_path(key)
        return self.is_done(key) and quarantine_if_corrupt(
            path, lambda there: parse(key, read(there)), self._quarantine
        )

    # -- what lies beside a record ---------------------------------------------------------------

    def publish_file(self, key: str, name: str, data: bytes) -> str:
        """Publish a file of a run before its record, and return the name for the record to hold.

        "mask.safetensors" becomes "mask-<16 digits of its sha256>.safetensors": two attempts whose
        bytes differ keep both, and each record names its own.
        """
        full = check_name(hashed_name(name, data), "file name")
        path = self.run_folder(key) / full
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_or_quarantine(
            path, data, lambda there: check_hash(full, read(there, _LARGE)), self._quarantine
        )
        return full

    def read_file(self, key: str, full: str) -> bytes:
        """The bytes of a file that a record names. Raises FileNotFoundError, Corrupt."""
        data = read(self.run_folder(key) / check_name(full, "file name"), _LARGE)
        check_hash(full, data)
        return data

    def stage_path(self, scope: str, name: str) -> Path:
        """Where a stage that several searches share is or will be. Raises UserError for a name."""
        shard = check_name(scope, "scope")[:2]
        return self.root / "stages" / shard / scope / f"{check_name(name, 'stage')}.safetensors"

    def publish_stage(self, scope: str, name: str, data: bytes) -> Outcome:
        """Share a stage; the first one wins. Raises StoreError."""
        path = self.stage_path(scope, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return create_once(path, data)

    def read_stage(self, scope: str, name: str) -> bytes | None:
        """The bytes of a shared stage, or None where there is none yet."""
        try:
            return read(self.stage_path(scope, name), _LARGE)
        except FileNotFoundError:
            return None

    def discard_stage(self, scope: str, name: str) -> None:
        """Move a stage whose bytes turned out to be broken to quarantine."""
        with suppress(FileNotFoundError):
            quarantine(self.stage_path(scope, name), self._quarantine)

    def publish_sweep(self, name: str, sweep: dict[str, Any]) -> Outcome:
        """Keep what was asked for, under the name of its list of runs. Raises StoreError."""
        return create_once(self.root / "sweeps" / f"{name}.json", encode(sweep))

    # -- attempts and failures -------------------------------------------------------------------

    def new_attempt(self, key: str) -> str:
        """A fresh attempt at a run, with a folder of its own: its name."""
        attempt = new_attempt_id()
        (self.run_folder(key) / "attempts").mkdir(parents=True, exist_ok=True)
        self.attempt_folder(key, attempt).mkdir()
        return attempt

    def attempts(self, key: str) -> list[str]:
        """The names of all attempts at a run, sorted."""
        return sorted(_names(self.run_folder(key) / "attempts"))

    def attempted_keys(self) -> frozenset[str]:
        """The keys of all runs that have a folder: done, failed, at work or interrupted."""
        return frozenset(name for _, names in self._shards() for name in names if is_key(name))

    def attempt_folder(self, key: str, attempt: str) -> Path:
        """Where the log, the failure or the divergence of one attempt is."""
        return self.run_folder(key) / "attempts" / check_name(attempt, "attempt")

    def publish_failure(
        self, key: str, attempt: str, failure: dict[str, Any], last: bool = True
    ) -> None:
        """Keep why an attempt failed, in its folder and, as the run's `last` failure, beside the
        place of the record; `key` and `attempt` are added. Raises StoreError.
        """
        data = encode({**failure, "key": key, "attempt": attempt})
        create_once(self._attempt(key, attempt) / "failure.json", data)
        if last:
            replace_atomic(self.record_path(key).with_suffix(".failed"), data)

    def last_failure(self, key: str) -> dict[str, Any] | None:
        """Why a run failed the last time, or None where it did not, or its note is broken."""
        with suppress(FileNotFoundError, Corrupt):
            return decode(read(self.record_path(key).with_suffix(".failed")))
        return None

    def failures(self, key: str) -> list[dict[str, Any]]:
        """Why the attempts at a run failed, the latest last; a broken note says so as `reason`."""
        notes = []
        for attempt in self.attempts(key):
            path = self.attempt_folder(key, attempt) / "failure.json"
            with suppress(FileNotFoundError, NotADirectoryError):
                when = os.lstat(path).st_mtime_ns
                try:
                    note = decode(read(path))
                except Corrupt as error:
                    note = {"key": key, "attempt": attempt, "reason": f"unreadable: {error}"}
                notes.append((when, attempt, note))
        return [note for _, _, note in sorted(notes, key=lambda each: each[:2])]

    def remove_temporary_files(self, older: float = _DAY) -> int:
        """Remove unfinished files whose writers died more than `older` seconds ago; how many."""
        before, removed = server_time(self.root) - older, 0
        for folder, _, names in os.walk(self.root):
            for path in (Path(folder, name) for name in names if name.startswith(TEMPORARY)):
                with suppress(OSError):  # gone, or not ours to remove
                    if os.lstat(path).st_mtime < before:
                        os.unlink(path)
                        removed += 1
        return removed

    # -- in common -------------------------------------------------------------------------------

    def _shards(self, shards: Collection[str] = SHARDS) -> Iterator[tuple[str, list[str]]]:
        for shard in shards:
            yield shard, _names(self.root / "runs" / shard)

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

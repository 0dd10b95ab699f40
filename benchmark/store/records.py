"""Read records and other files of a store, and move damaged ones to quarantine."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from errno import EIO
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from paibench.benchmark.store.atomic import Outcome, StoreError, create_once, read
from paibench.benchmark.store.checksummed_json import Corrupt, decode
from paibench.benchmark.store.names import is_key

SCHEMA = 5
"""The schema number of new records. Older ones are read: 2 added `plugin_origin`,
`plugin_sha256`, `other_plugins` and `isolation`; 3 added `parameters`, `ties` and `notes`; 4 added
`mask_distances`, `channels` and `channels_kept`; 5 added `predictions_file`. These are None or
empty in older records."""

Validate = Callable[[Path], object]
"""Reads a file and raises Corrupt if it is damaged."""


class NewerSchema(Corrupt):
    """A sound record with a later schema: readers skip it, and it is never moved."""


class StoredRecord(NamedTuple):
    """A record that can be trusted, and its file."""

    path: Path
    record: dict[str, Any]


class Problem(NamedTuple):
    """A file that should be a record and cannot be read, with the reason in one line."""

    path: Path
    reason: str


def read_entry(path: Path) -> StoredRecord | Problem:
    """Read the file of a record. Raises FileNotFoundError if there is none."""
    key = path.stem
    try:
        if not is_key(key) or not key.startswith(path.parent.name):
            raise Corrupt("its name is not the key of a run of this folder")
        return StoredRecord(path, parse(key, read(path)))
    # its owner may have moved it since the folder was listed, which is no problem of the record
    except FileNotFoundError:
        raise
    except Corrupt as error:
        return Problem(path, str(error))
    except OSError as error:
        return Problem(path, f"cannot be read: {error.strerror}")


def parse(key: str, data: bytes) -> dict[str, Any]:
    """Return the record of a run from its bytes. Raises Corrupt, NewerSchema for a later schema."""
    record = decode(data)
    check_record(key, record)
    return record


def check_record(key: str, record: dict[str, Any]) -> None:
    """Raise Corrupt unless this is the record of that run, NewerSchema if its schema is later."""
    schema = record.get("schema")
    # not isinstance, because True is an int too
    if type(schema) is not int or schema < 1:
        raise Corrupt("it has no schema number")
    if schema > SCHEMA:
        raise NewerSchema(f"schema {schema}; this program reads <= {SCHEMA}; update paibench")
    if record.get("key") != key:
        raise Corrupt("its key is not its file name")


def hashed_name(name: str, data: bytes) -> str:
    """Add the first 16 digits of the sha256 to a file name: "mask-0123456789abcdef.bin"."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:16]}{dot}{suffix}"


def check_hash(name: str, data: bytes) -> None:
    """Raise Corrupt unless this is the name that `hashed_name` gives to these bytes."""
    stem, dot, suffix = name.partition(".")
    if hashed_name(f"{stem.rpartition('-')[0]}{dot}{suffix}", data) != name:
        raise Corrupt(f"its bytes do not fit its name {name!r}")


# -- what the owner of a run does about a damaged file: move it aside, never delete it, try again --


def publish_or_quarantine(path: Path, data: bytes, validate: Validate, folder: Path) -> Outcome:
    """Create the file; if a damaged one has its name, move that to `folder` and try again."""
    for _ in range(3):
        if create_once(path, data) == "new":
            return "new"
        if not quarantine_if_corrupt(path, validate, folder):
            return "already"
    raise StoreError(EIO, f"{str(path)!r} was damaged three times in a row; check the disk")


def quarantine_if_corrupt(path: Path, validate: Validate, folder: Path) -> bool:
    """Move the file to `folder` if it is damaged, and return whether its name is free now."""
    if _is_sound(path, validate):
        return False
    with suppress(FileNotFoundError):
        quarantined = quarantine(path, folder)
        # another owner replaced it between our check and our move
        if _is_sound(quarantined, validate):
            with suppress(FileExistsError):
                os.link(quarantined, path)
                os.unlink(quarantined)
            return False
    return True


def quarantine(path: Path, folder: Path) -> Path:
    """Move a file of any kind to `folder` under a unique name, and return its new path."""
    target = folder / f"{path.name}.corrupt.{uuid4().hex}"
    os.rename(path, target)
    return target


def _is_sound(path: Path, validate: Validate) -> bool:
    try:
        validate(path)
    except NewerSchema:
        return True
    except (Corrupt, FileNotFoundError):
        return False
    return True

"""What a reader finds in a store: a record that can be trusted, or a problem that is reported."""

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

SCHEMA = 2
"""The latest schema of records that this program reads."""


class NewerSchema(Corrupt):
    """A sound record of a later schema: passed over, never moved."""


class StoredRecord(NamedTuple):
    """A record that can be trusted, and where it is."""

    path: Path
    record: dict[str, Any]


class Problem(NamedTuple):
    """A record that cannot be read, and why, in one line."""

    path: Path
    reason: str


def entry(path: Path) -> StoredRecord | Problem:
    """What stands under the name of a record. Raises FileNotFoundError where nothing does."""
    key = path.stem
    try:
        if not is_key(key) or not key.startswith(path.parent.name):
            raise Corrupt("its name is not the key of a run of this folder")
        return StoredRecord(path, parse(key, read(path)))
    except FileNotFoundError:
        raise
    except Corrupt as error:
        return Problem(path, str(error))
    except OSError as error:
        return Problem(path, f"cannot be read: {error.strerror}")


def parse(key: str, data: bytes) -> dict[str, Any]:
    """The record of a run from its bytes. Raises Corrupt, and Newer for a later schema."""
    record = decode(data)
    schema = record.get("schema")
    if type(schema) is not int or schema < 1:
        raise Corrupt("it has no schema number")
    if schema > SCHEMA:
        raise NewerSchema(f"schema {schema}; this program reads <= {SCHEMA}; update paibench")
    if record.get("key") != key:
        raise Corrupt("its key is not its file name")
    return record


def hashed_name(name: str, data: bytes) -> str:
    """A file name with the first 16 digits of its bytes' sha256: "mask-0123456789abcdef.bin"."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:16]}{dot}{suffix}"


def check_hash(name: str, data: bytes) -> None:
    """Raise Corrupt where these are not the bytes that got this hashed name."""
    stem, dot, suffix = name.partition(".")
    if hashed_name(f"{stem.rpartition('-')[0]}{dot}{suffix}", data) != name:
        raise Corrupt(f"its bytes do not fit its name {name!r}")


# What the owner of a run does about a broken file: move it aside, never delete it, try again.

Validator = Callable[[Path], object]
"""Reads a file and raises Corrupt where it is broken."""


def publish_or_quarantine(path: Path, data: bytes, judge: Validator, folder: Path) -> Outcome:
    """Publish; where a broken file has the name, move it to quarantine and try again."""
    for _ in range(3):
        if create_once(path, data) == "new":
            return "new"
        if not quarantine_if_corrupt(path, judge, folder):
            return "already"
    raise StoreError(EIO, f"{str(path)!r} was broken three times in a row; check the disk")


def quarantine_if_corrupt(path: Path, judge: Validator, folder: Path) -> bool:
    """Move a file to quarantine if it is broken; whether its name is free now."""
    if _is_sound(path, judge):
        return False
    with suppress(FileNotFoundError):
        aside = quarantine(path, folder)
        if _is_sound(aside, judge):  # another owner mended it between our look and our move
            with suppress(FileExistsError):
                os.link(aside, path)
                os.unlink(aside)
            return False
    return True


def quarantine(path: Path, folder: Path) -> Path:
    """Move whatever has this name to quarantine, under a name of its own, which is returned."""
    aside = folder / f"{path.name}.corrupt.{uuid4().hex}"
    os.rename(path, aside)
    return aside


def _is_sound(path: Path, judge: Validator) -> bool:
    try:
        judge(path)
    except NewerSchema:
        return True
    except (Corrupt, FileNotFoundError):
        return False
    return True

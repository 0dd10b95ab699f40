"""What a reader finds in a store: a record that can be trusted, or a problem that is reported."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from paibench.benchmark.store.atomic import read
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

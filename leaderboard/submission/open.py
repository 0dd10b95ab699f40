"""Open a submitted record: check bytes, schema and spec before its numbers are read."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.records import SCHEMA
from paibench.leaderboard.submission.findings import Fault, shorten
from paibench.methods.core.registry import Kind, UserError, is_own

_OUT_OF_RANGE = {"greater_than_equal", "less_than_equal", "less_than", "finite_number"}
_REGISTRIES: dict[str, Kind] = {
    "dataset": "datasets",
    "model": "models",
    "recipe": "recipes",
    "method": "methods",
}


@dataclass(frozen=True)
class Submitted:
    """A record that has the key of its spec, and the sha256 of its file."""

    record: Record
    spec: Spec
    sha256: str


@dataclass(frozen=True)
class Opened:
    """The result of opening a file: a record, or the faults that prevent one."""

    submitted: Submitted | None
    faults: tuple[Fault, ...] = ()
    sha256: str | None = None
    """The sha256 of the file, if it could be read."""


def open_record(path: Path, key: str) -> Opened:
    """Open the record of the run `key`. Nothing but this file is read."""
    try:
        data = read(path)
    except Corrupt as error:
        return Opened(None, (Fault("file", "a regular file", str(error)),))
    except OSError as error:
        return Opened(None, (Fault("file", "a readable file", error.strerror or "none"),))
    parsed = parse_record(data, key)
    sha256 = hashlib.sha256(data).hexdigest()
    if isinstance(parsed, Record):
        return Opened(Submitted(parsed, Spec.model_validate(parsed.spec), sha256), (), sha256)
    return Opened(None, parsed, sha256)


def parse_record(data: bytes, key: str) -> Record | tuple[Fault, ...]:
    """Return the record of the run `key` in these bytes, or why there is none."""
    try:
        plain = decode(data)
    except Corrupt as error:
        return (Fault("seal", "an intact record", str(error)),)
    # One record has one spelling, so that its bytes can be compared with published ones.
    if encode(plain) != data:
        return (Fault("seal", "canonical JSON", "the same values, written differently"),)
    schema = plain.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        return (Fault("schema", f"schema 1 to {SCHEMA}", shorten(schema)),)
    try:
        record = Record.model_validate(plain)
    except ValueError as error:
        return tuple(_schema_faults(error))
    return tuple(_spec_faults(record, key)) or record


def owns(spec: Spec, field: str) -> bool:
    """Return whether paibench itself provides the data set, model, recipe or method of a spec."""
    name: str = getattr(spec, field).name
    # timm models are ours as well: the adapter builds them, and no plugin code runs.
    return (field == "model" and name.startswith("timm:")) or _is_own(name, _REGISTRIES[field])


@cache  # every record asks, and the answer is in a file
def _is_own(name: str, kind: Kind) -> bool:
    try:
        return is_own(name, kind)
    except UserError:
        return False


def _schema_faults(error: ValueError) -> Iterator[Fault]:
    """Sort the errors of pydantic by the check that they belong to."""
    # A hostile record can have thousands of errors; twenty are enough to act on.
    for each in getattr(error, "errors", list)()[:20]:
        location = shorten(".".join(map(str, each["loc"])))
        message = shorten(str(each["msg"]).removeprefix("Value error, "))
        if each["type"] in _OUT_OF_RANGE:
            yield Fault("range", f"{location}: {message}", shorten(each.get("input")))
        elif each["loc"] or message.startswith(("accuracy:", "reason:")):
            yield Fault("schema", f"{location}: {message}".removeprefix(": "), _input_of(each))
        else:
            yield Fault("count", "counts that agree", message)


def _input_of(error: dict[str, Any]) -> str:
    present = error["loc"] and error["type"] != "missing"
    return shorten(error.get("input")) if present else "nothing"


def _spec_faults(record: Record, key: str) -> Iterator[Fault]:
    try:
        spec = Spec.model_validate(record.spec)
        canonical, submitted = (
            json.dumps(each, sort_keys=True) for each in (spec.canonical, record.spec)
        )
        key_of_spec = spec.key
    except (ValueError, ArithmeticError, RecursionError) as error:
        first = error.errors()[0]["msg"] if hasattr(error, "errors") else error
        yield Fault("spec", "a spec", shorten(str(first)))
        return
    # Only one fault is reported: a wrong key explains the others.
    if record.key != key_of_spec:
        yield Fault("key", key_of_spec, record.key)
    elif record.key != key:
        yield Fault("name", f"{record.key}.json", f"{key}.json")
    elif canonical != submitted:
        yield Fault("spec", shorten(canonical), shorten(submitted))
    elif all(owns(spec, field) for field in _REGISTRIES):
        yield from _option_faults(record)


def _option_faults(record: Record) -> Iterator[Fault]:
    """Find options that do not exist or have their default value; only ours are known."""
    try:
        spec = Spec.of(**record.spec)
    except UserError as error:
        yield Fault("spec", "options that exist", shorten(str(error)))
        return
    if spec.key != record.key:
        shortest = shorten(json.dumps(spec.canonical, sort_keys=True))
        yield Fault("spec", shortest, "the same spec with defaults written out")

"""A submitted record, opened: what it must be before its numbers mean anything."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from paibench.benchmark.record import SCHEMA, Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.leaderboard.submission.findings import Fault, shown
from paibench.methods.core.registry import Kind, UserError, is_own

_OUT_OF_RANGE = {"greater_than_equal", "less_than_equal", "less_than", "finite_number"}
_NAMES: tuple[tuple[str, Kind], ...] = (
    ("dataset", "datasets"),
    ("model", "models"),
    ("recipe", "recipes"),
    ("method", "methods"),
)


@dataclass(frozen=True)
class Submitted:
    """A record whose key is that of its spec, and the sha256 of the bytes that it was read from."""

    record: Record
    spec: Spec
    sha256: str


@dataclass(frozen=True)
class Opened:
    """What opening a file gave: a record, unless there are faults that leave none."""

    found: Submitted | None
    faults: tuple[Fault, ...] = ()
    sha256: str | None = None
    """Of the file, where it could be read."""


def open_record(path: Path, key: str) -> Opened:
    """The record under the name of a run. Nothing but this file is read."""
    try:
        data = read(path)
    except Corrupt as error:
        return Opened(None, (Fault("file", "a plain file", str(error)),))
    except OSError as error:
        return Opened(None, (Fault("file", "a file that can be read", error.strerror or "none"),))
    found = judge(data, key)
    sha256 = hashlib.sha256(data).hexdigest()
    if isinstance(found, Record):
        return Opened(Submitted(found, Spec.model_validate(found.spec), sha256), (), sha256)
    return Opened(None, found, sha256)


def judge(data: bytes, key: str) -> Record | tuple[Fault, ...]:
    """The record of a run in these bytes, or why they are none."""
    try:
        plain = decode(data)
    except Corrupt as error:
        return (Fault("seal", "an intact record", str(error)),)
    if encode(plain) != data:
        return (Fault("seal", "canonical JSON", "other spelling of the same"),)
    schema = plain.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        return (Fault("schema", f"schema 1 to {SCHEMA}", shown(schema)),)
    try:
        record = Record.model_validate(plain)
    except ValueError as error:
        return tuple(_of_schema(error))
    return tuple(_of_spec(record, key)) or record


def owns(spec: Spec, field: str) -> bool:
    """Whether the suite brings what a spec names there: data set, model, recipe or method."""
    name: str = getattr(spec, field).name
    return (field == "model" and name.startswith("timm:")) or _is_own(name, dict(_NAMES)[field])


@cache  # asked for every record, and answered from a file
def _is_own(name: str, kind: Kind) -> bool:
    try:
        return is_own(name, kind)
    except UserError:
        return False


def _of_schema(error: ValueError) -> Iterator[Fault]:
    """The complaints of pydantic, told apart by what they are about."""
    for each in getattr(error, "errors", list)()[:20]:
        place = shown(".".join(map(str, each["loc"])))
        message = shown(str(each["msg"]).removeprefix("Value error, "))
        if each["type"] in _OUT_OF_RANGE:
            yield Fault("range", f"{place}: {message}", shown(each.get("input")))
        elif each["loc"] or message.startswith(("accuracy:", "reason:")):
            yield Fault("schema", f"{place}: {message}".removeprefix(": "), _came(each))
        else:
            yield Fault("count", "counts that agree", message)


def _came(error: dict[str, Any]) -> str:
    return shown(error.get("input")) if error["loc"] and error["type"] != "missing" else "nothing"


def _of_spec(record: Record, key: str) -> Iterator[Fault]:
    try:
        spec = Spec.model_validate(record.spec)
        canonical, given = (
            json.dumps(each, sort_keys=True) for each in (spec.canonical, record.spec)
        )
        again = spec.key
    except (ValueError, ArithmeticError, RecursionError) as error:
        first = error.errors()[0]["msg"] if hasattr(error, "errors") else error
        yield Fault("spec", "a spec", shown(str(first)))
        return
    if record.key != again:
        yield Fault("key", again, record.key)
    elif record.key != key:
        yield Fault("name", f"{record.key}.json", f"{key}.json")
    elif canonical != given:
        yield Fault("spec", shown(canonical), shown(given))
    elif all(owns(spec, field) for field, _ in _NAMES):
        yield from _of_options(record)


def _of_options(record: Record) -> Iterator[Fault]:
    """Options that the suite does not have, or that stand at their default."""
    try:
        spec = Spec.of(**record.spec)
    except UserError as error:
        yield Fault("spec", "options that the suite has", shown(str(error)))
        return
    if spec.key != record.key:
        left_out = shown(json.dumps(spec.canonical, sort_keys=True))
        yield Fault("spec", left_out, "the same with defaults written out")

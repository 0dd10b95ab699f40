"""Canonical JSON that carries its own checksum, so that any damage is noticed.

The checksum is a field named "seal". It protects against accidents (truncation, flipped bits,
edits by hand), not against forgery.
"""

import hashlib
import json
import math
from typing import Any


class Corrupt(ValueError):
    """A stored file that cannot be trusted; the message is the reason, in one line."""


def encode(record: dict[str, Any]) -> bytes:
    """Return canonical JSON (sorted keys, ASCII, final newline) with the sha256 of the rest.

    Raises ValueError for what `decode` would refuse (NaN, infinity, lone surrogates, a field
    named "seal"), TypeError for what is not JSON.
    """
    if "seal" in record:
        raise ValueError("a record must not have a field named 'seal'")
    members = {name: _member(name, record[name]) for name in sorted(record)}
    rest = _object(members)
    _refuse_surrogates(rest, record)
    members["seal"] = _member("seal", _digest(rest))
    return f"{_object(members)}\n".encode()


def decode(data: bytes) -> dict[str, Any]:
    """Return the record in the bytes that `encode` returned, without the seal.

    Raises Corrupt, and nothing else, for all other bytes: not JSON, not an object, duplicate keys,
    numbers that are not finite, lone surrogates, endless nesting, a wrong seal.
    """
    try:
        text = data.decode()
        record = _DECODER.decode(text)
        if not isinstance(record, dict):
            raise Corrupt("not a JSON object")
        _refuse_surrogates(text, record)
        seal = record.pop("seal", None)
        # of the values, not of the bytes: a record that was indented by hand still reads
        expected = _digest(_ENCODER.encode(record))
    except Corrupt:
        raise
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"not valid JSON: {error}") from None
    if seal != expected:
        raise Corrupt("its seal does not fit" if seal else "it has no seal")
    return record


def _member(name: str, value: Any) -> str:
    return f"{_ENCODER.encode(name)}:{_ENCODER.encode(value)}"


def _object(members: dict[str, str]) -> str:
    return f"{{{','.join(members[name] for name in sorted(members))}}}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_surrogates(text: str, record: dict[str, Any]) -> None:
    """Raise ValueError if the record holds half a surrogate pair, which UTF-8 cannot express."""
    if "\\u" in text:  # only an escape can bring one in, and few records have any
        json.dumps(record, ensure_ascii=False).encode()


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict. Raises Corrupt if a key occurs twice: readers would differ."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Corrupt(f"the key {twice[:80]!r} occurs twice")
    return record


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # NaN, Infinity, 1e999
        raise ValueError(f"{text[:80]} is not finite")
    return number


_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(
    object_pairs_hook=without_duplicates, parse_float=_finite, parse_constant=_finite
)

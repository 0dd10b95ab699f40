"""Records as bytes: canonical JSON with a seal, so that damage is seen whatever did it.

The seal guards against accidents (truncation, flipped bits, hand edits), not against forgers.
"""

import hashlib
import json
import math
from typing import Any


class Corrupt(ValueError):
    """Something stored that cannot be trusted; its message is the reason, in one line."""


def encode(record: dict[str, Any]) -> bytes:
    """Canonical JSON (sorted keys, ASCII, a newline at the end) with the sha256 of the rest in it.

    Raises ValueError where the record holds what would not be read back: NaN, infinity, lone
    surrogates, a field named "seal"; TypeError where it holds what is not JSON.
    """
    if "seal" in record:
        raise ValueError("a record has no field of its own named 'seal'")
    data = _canonical(record | {"seal": _digest(record)}) + b"\n"
    decode(data)
    return data


def decode(data: bytes) -> dict[str, Any]:
    """The record in sealed bytes, without the seal.

    Raises Corrupt, and nothing else, for all other bytes: not JSON, not an object, duplicate keys,
    numbers that are not finite, lone surrogates, nesting without end, a seal that does not fit.
    """
    try:
        text = data.decode()
        record = _DECODER.decode(text)
        if not isinstance(record, dict):
            raise Corrupt("not a JSON object")
        if "\\u" in text:  # only an escape can bring in half a surrogate pair
            json.dumps(record, ensure_ascii=False).encode()
        found = record.pop("seal", None)
        if _fits(data, found):
            return record
        expected = _digest(record)
    except Corrupt:
        raise
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"not valid JSON: {error}") from None
    if found != expected:
        raise Corrupt("its seal does not fit" if found else "it has no seal")
    return record


def _fits(data: bytes, encode: object) -> bool:
    """Whether a seal is that of the other bytes as they stand, which is quicker to find out.

    False where that is not plain to see, as in a record that was laid out by hand.
    """
    if not isinstance(encode, str) or not encode.isalnum():
        return False
    member = f'"seal":"{encode}"'.encode()
    before, found, after = data.rstrip(b"\n").partition(member)
    if before.endswith(b","):
        before = before[:-1]
    elif after.startswith(b","):
        after = after[1:]
    return bool(found) and hashlib.sha256(before + after).hexdigest() == encode


def _canonical(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(record)).hexdigest()


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Corrupt(f"the key {twice[:80]!r} stands in it twice")
    return record


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # NaN, Infinity, 1e999
        raise ValueError(f"{text[:80]} is not finite")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=without_duplicates, parse_float=_finite, parse_constant=_finite
)

"""JSON with a checksum: the same record comes back, or an error with the reason."""

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode

RECORD = {"schema": 1, "accuracy": 0.925, "layers": ["conv1", "fc"], "note": "é", "loss": None}
GOOD = encode(RECORD)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abü", max_size=3), inner),
    max_leaves=8,
)  # fmt: skip


@settings(derandomize=True, max_examples=100)
@given(st.dictionaries(st.text("abcü"), plain))
def test_a_record_survives_encoding(record: dict[str, Any]) -> None:
    """`decode` is the inverse of `encode`, for any order of the keys."""
    data = encode(record)
    assert decode(data) == record
    assert encode(dict(reversed(record.items()))) == data


def test_the_bytes_are_canonical() -> None:
    """The bytes are ASCII with sorted keys and one newline; the seal is the sha256 of the rest."""
    rest = json.dumps(RECORD, sort_keys=True, separators=(",", ":"))
    found = json.loads(GOOD)
    assert found["seal"] == hashlib.sha256(rest.encode()).hexdigest()
    assert GOOD.isascii() and GOOD.endswith(b"}\n") and GOOD.count(b"\n") == 1
    assert list(found) == sorted(found)


def test_layout_of_the_text_does_not_matter() -> None:
    """The checksum covers the values, so a record that was indented by hand still reads."""
    assert decode(json.dumps(json.loads(GOOD), indent=2).encode()) == RECORD


@settings(derandomize=True, max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 2), st.binary(max_size=3)),
        min_size=1, max_size=4,
    )
)  # fmt: skip
@example([(0, 2, b"\xef\xbb\xbf")])
def test_damage_is_seen_or_means_nothing(edits: list[tuple[int, int, bytes]]) -> None:
    """Bytes cut, replaced or put in give the same record or Corrupt, and no other exception."""
    data = GOOD
    for place, gone, new in edits:
        data = data[:place] + new + data[place + gone :]
    try:
        assert decode(data) == RECORD
    except Corrupt as error:
        assert "\n" not in str(error)


@settings(derandomize=True, max_examples=200)
@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_corrupt(data: bytes) -> None:
    """Random bytes are refused with a reason."""
    with pytest.raises(Corrupt):
        decode(data)


def test_every_truncation_is_refused() -> None:
    """No prefix of a record is a record, except the one without the final newline."""
    for length in range(len(GOOD) - 1):
        with pytest.raises(Corrupt):
            decode(GOOD[:length])


def _with_its_seal(rest: str) -> bytes:
    """Return an object whose seal fits what Python's own parser reads from it."""
    meaning = json.dumps(json.loads(rest), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(meaning.encode()).hexdigest()
    return f'{rest[:-1]},"seal":"{digest}"}}'.encode()


REFUSED = {
    "empty": (b"", "not valid JSON"),
    "array": (b"[]", "not a JSON object"),
    "no seal": (b'{"acc":0.1}', "no seal"),
    "other seal": (GOOD.replace(b"0.925", b"0.926"), "seal does not fit"),
    "seal is a number": (b'{"seal":7}', "seal does not fit"),
    "duplicate key": (_with_its_seal('{"acc":0.1,"acc":0.99}'), "'acc' occurs twice"),
    "duplicate inside": (_with_its_seal('{"a":{"b":1,"b":1}}'), "'b' occurs twice"),
    "NaN": (_with_its_seal('{"acc":NaN}'), "not valid JSON"),
    "Infinity": (_with_its_seal('{"acc":-Infinity}'), "not valid JSON"),
    "1e999": (_with_its_seal('{"acc":1e999}'), "not valid JSON"),
    "lone surrogate": (_with_its_seal('{"a":"\\ud800"}'), "surrogates"),
    "surrogate in a key": (_with_its_seal('{"\\udfff":1}'), "surrogates"),
    "utf-16": (json.dumps(RECORD).encode("utf-16"), "not valid JSON"),
    "latin-1": ('{"a":"é"}'.encode("latin-1"), "not valid JSON"),
    "deep": (b"[" * 100_000, "not valid JSON: maximum recursion"),
    "deep objects": (b'{"a":' * 100_000, "not valid JSON: maximum recursion"),
    "long integer": (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
    "two records": (GOOD + GOOD, "Extra data"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_hostile_bytes_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    """Input that Python's parser accepts or fails on is Corrupt in one line."""
    with pytest.raises(Corrupt, match=reason) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


UNFIT = {
    "NaN": {"a": math.nan},
    "infinity": {"a": math.inf},
    "own seal": {"seal": ""},
    "surrogate": {"a": "\ud800"},
}


@pytest.mark.parametrize("record", UNFIT.values(), ids=UNFIT)
def test_what_could_not_be_read_back_is_not_encoded(record: dict[str, Any]) -> None:
    """`encode` raises for a record that `decode` would refuse."""
    with pytest.raises(ValueError):
        encode(record)

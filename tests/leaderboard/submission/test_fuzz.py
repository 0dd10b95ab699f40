"""Validation never raises, whatever a submission contains."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.records import hashed_name
from paibench.leaderboard.submission import report
from paibench.leaderboard.submission.validate import validate

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from([10**400, -(2**63), 1e308, -1.0, "=1+1", "<b>", "a" * 5000, "\ud800", "../.."]),
)
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
FIELDS = ["dataset", "model", "recipe", "method", "density", "seed", "init", "control"]
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def one(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, bytes]]:
    """A store with one record: its root, the path of the record, and its original bytes."""
    root = tmp_path_factory.mktemp("fuzz") / "store"
    path = next(path for path in sorted((made / "runs").glob("*/*.json")))
    copy = root / path.relative_to(made)
    shutil.copytree(path.with_suffix(""), copy.with_suffix(""))
    shutil.copy(made / "bench.json", root)
    yield root, copy, path.read_bytes()


def is_valid(root: Path) -> bool:
    """Return whether a store is valid, after every form of the report was written."""
    published = validate(root, root)
    again = validate(root)
    assert json.loads(json.dumps(report.plain(again)))["records"] == 1
    assert "<script" not in report.markdown(again)
    assert report.terminal(again).row_count <= 50
    assert published.records == 1
    return again.valid


@QUICK
@given(data=st.data())
def test_any_value_in_any_field(one: tuple[Path, Path, bytes], data: st.DataObject) -> None:
    """Any value in any field of a record gives findings."""
    root, path, bytes_ = one
    plain = decode(bytes_)
    into = plain["environment"] if data.draw(st.booleans()) else plain
    name = data.draw(st.sampled_from([*into, "new"]))
    into[name] = data.draw(ANY)
    path.unlink(missing_ok=True)
    try:
        path.write_bytes(encode(plain))
    except ValueError:  # values that no record can hold
        path.write_bytes(json.dumps(plain).encode())
    assert not is_valid(root)  # a single record has no baselines


@QUICK
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5))
def test_any_bytes(one: tuple[Path, Path, bytes], changes: list[tuple[int, int]]) -> None:
    """Changed bytes give findings, because the checksum does not match."""
    root, path, bytes_ = one
    data = bytearray(bytes_)
    for place, value in changes:
        data[place % len(data)] = value
    path.unlink(missing_ok=True)
    path.write_bytes(bytes(data))
    assert not is_valid(root)


@QUICK
@given(curve=ANY | st.lists(st.fixed_dictionaries(
    dict.fromkeys(("epoch", "train_loss", "loss", "accuracy"), LEAVES)), max_size=3))  # fmt: skip
def test_any_curve(one: tuple[Path, Path, bytes], curve: Any) -> None:
    """Any curve under the name of its hash gives findings."""
    root, path, bytes_ = one
    data = json.dumps(curve).encode()
    name = hashed_name("curve.json", data)
    (path.with_suffix("") / name).write_bytes(data)
    path.unlink(missing_ok=True)
    path.write_bytes(encode(decode(bytes_) | {"curve_file": name}))
    assert not is_valid(root)
    (path.with_suffix("") / name).unlink()


@QUICK
@given(spec=st.dictionaries(st.sampled_from(FIELDS), ANY))
def test_any_spec(one: tuple[Path, Path, bytes], spec: dict[str, Any]) -> None:
    """Any change of the spec gives findings: it is invalid or has another key."""
    root, path, bytes_ = one
    plain = decode(bytes_)
    path.unlink(missing_ok=True)
    try:
        path.write_bytes(encode(plain | {"spec": plain["spec"] | spec}))
    except ValueError:
        return
    assert not is_valid(root)

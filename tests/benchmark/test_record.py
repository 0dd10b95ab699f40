"""Records: the fields of a valid one, and the errors for all others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paibench.benchmark.record import VOLATILE, Environment, Record, schema
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.checksummed_json import decode, encode

Plain = dict[str, Any]
PUBLISHED = Path(__file__).parents[2] / "docs" / "record.schema.json"
REGENERATE = (
    "python -c \"from paibench.benchmark.record import schema; print(schema(), end='')\" "
    "> docs/record.schema.json"
)


@pytest.fixture
def plain(record_factory: Callable[..., Record]) -> Plain:
    """Return a valid record as JSON values."""
    return record_factory().plain()


def refusal(plain: Plain) -> str:
    """Return the error for an invalid record."""
    with pytest.raises(ValueError) as caught:
        Record.read(plain)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_the_published_schema_is_up_to_date() -> None:
    """Anyone can check a record against docs/record.schema.json without this program."""
    assert PUBLISHED.read_text() == schema(), f"to write it again: {REGENERATE}"


def test_every_field_has_a_type_in_the_schema(plain: Plain) -> None:
    """The schema names exactly the fields that a record has, and allows no others."""
    found = json.loads(schema())
    assert found["properties"].keys() == plain.keys()
    assert found["additionalProperties"] is False
    assert found["$defs"]["Environment"]["properties"].keys() == Environment.model_fields.keys()


def test_a_record_survives_the_store(plain: Plain) -> None:
    """A record that is written, read back and validated is equal to the original."""
    again = Record.read(decode(encode(plain)))
    assert again.plain() == plain
    assert again == Record.read(plain)
    assert again.key == Spec.model_validate(again.spec).key


def test_what_may_differ_between_two_runs(record_factory: Callable[..., Record]) -> None:
    """A second run may differ in times, memory and machine only."""
    slow = record_factory(train_seconds=9.0, peak_memory_mb=1.0, environment={"host": "other"})
    assert slow.stable() == record_factory().stable()
    assert slow.stable().keys() == slow.plain().keys() - set(VOLATILE)
    assert record_factory(accuracy=0.8).stable() != record_factory().stable()


@pytest.mark.parametrize("status", ["diverged", "failed", "skipped"])
def test_only_done_needs_an_accuracy(record_factory: Callable[..., Record], status: str) -> None:
    """A run without an accuracy may have a record, with its reason."""
    record = record_factory(status=status, reason="loss is nan", accuracy=None)
    assert (record.status, record.accuracy) == (status, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": 1.5}, "accuracy: Input should be less than or equal to 1"),
        ({"accuracy_best": -0.1}, "accuracy_best: Input should be greater than or equal to 0"),
        ({"accuracy": "0.9"}, "accuracy: Input should be a valid number"),
        ({"accuracy": True}, "accuracy: Input should be a valid number"),
        ({"accuracy": float("nan")}, "accuracy: Input should be "),
        ({"loss": float("inf")}, "loss: Input should be a finite number"),
        ({"train_seconds": -1.0}, "train_seconds: Input should be greater than or equal to 0"),
        ({"search_epochs": -1}, "search_epochs: Input should be greater than or equal to 0"),
        ({"kept": 5020.0}, "kept: Input should be a valid integer"),
        ({"kept": 10**400}, "kept: Input should be less than"),
        ({"kept": 5021}, "layer_kept does not add up to kept"),
        ({"prunable": 50_201}, "layer_sizes does not add up to prunable"),
        ({"density": 0.2}, "density: is not kept over prunable"),
        ({"layer_names": ["fc1.weight"]}, "layer_names, layer_sizes and layer_kept differ in len"),
        ({"layer_kept": [-1, 5021, 0]}, "layer_kept.0: Input should be greater than or equal to"),
        ({"layer_kept": [0, 0, 5020]}, "layer_kept: a layer keeps more than it has"),
        ({"layer_kept": "abc"}, "layer_kept: Input should be a valid list"),
        ({"status": "fine"}, "status: Input should be 'done', 'diverged', 'failed' or 'skipped'"),
        ({"accuracy": None}, "accuracy: is missing from a record with status done"),
        ({"status": "failed"}, "reason: is missing from a record with status failed"),
        ({"schema": 0}, "schema: Input should be greater than or equal to 1"),
        ({"schema": True}, "schema: Input should be a valid integer"),
        ({"key": "abc"}, "key: String should match pattern"),
        ({"key": "0" * 40}, f"key: {'0' * 40} is not the key of its spec"),
        ({"spec": {}}, "spec.dataset: Field required"),
        ({"spec": []}, "spec: Input should be a valid dictionary"),
        ({"mask_sha256": "abc"}, "mask_sha256: String should match pattern"),
        ({"accuracies": 1}, "accuracies: Extra inputs are not permitted"),
        ({"x\n" * 100: 1}, "x x x"),
        ({"environment": {}}, "environment.started: Field required"),
        ({"environment": None}, "environment: Input should be a valid dictionary"),
    ],
    ids=lambda value: value[:32] if isinstance(value, str) else "",
)
def test_refusals(plain: Plain, changes: Plain, message: str) -> None:
    """A record that contradicts itself or its types is refused by the name of the field."""
    assert refusal(plain | changes).startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 2.0}, "spec.density: 2.0 is outside (0, 1]"),
        ({"method": "../snip"}, "spec.method.name: '../snip' is not a name"),
        ({"methud": 1}, "spec.methud: Extra inputs are not permitted"),
        ({"seed": 1}, "key: "),
    ],
    ids=["range", "name", "unknown", "another run"],
)
def test_the_spec_inside_is_checked(plain: Plain, changes: Plain, message: str) -> None:
    """The spec of a record is validated, and the key is computed again."""
    assert refusal(plain | {"spec": plain["spec"] | changes}).startswith(message)


def test_a_record_of_an_unknown_method_can_be_read(record_factory: Callable[..., Record]) -> None:
    """A record can be read if its method is not installed."""
    assert record_factory(method="nobody-has-it").spec["method"] == "nobody-has-it"


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@settings(
    derandomize=True,
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # it only makes records
)
@given(data=st.data())
def test_nothing_but_a_record_or_a_refusal(
    record_factory: Callable[..., Record], data: st.DataObject
) -> None:
    """For any value of a field, reading gives a valid record or a ValueError in one line."""
    plain = record_factory().plain()
    field = data.draw(st.sampled_from(sorted(plain)))
    plain[field] = data.draw(hostile)
    try:
        Record.read(plain)
    except ValueError as error:
        assert "\n" not in str(error)

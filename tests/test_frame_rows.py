"""What is remembered from row to row changes no row."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.seal import Corrupt, unseal
from paibench.benchmark.spec import Spec
from paibench.leaderboard.rows import Rows, row_of

GOOD: dict[str, Any] = {"dataset": "digits", "model": "m", "recipe": "lite", "method": "snip"}
METHODS: list[Any] = [
    "snip",
    {"name": "snip"},
    {"name": "snip", "options": {}},
    {"name": "snip", "a": 1},
    {"name": "snip", "a": 1.0},
    {"name": "snip", "a": True},
    {"name": "snip", "a": "1"},
    {"name": "snip", "a": None},
    {"name": "snip", "a": -0.0},
    {"name": "snip", "a": 0.0},
    {"name": "snip", "b": 2, "a": 1},
    {"name": "snip", "options": {"a": 1, "b": 2}},
]
REFUSED: list[Any] = [
    None,
    7,
    [],
    {},
    {**GOOD, "method": 7},
    {**GOOD, "method": None},
    {**GOOD, "method": ".."},
    {**GOOD, "method": {}},
    {**GOOD, "method": {"name": "snip", "a": []}},
    {**GOOD, "method": {"name": "snip", "a-b": 1}},
    {**GOOD, "method": {"name": "snip", "a": 10**30}},
    {**GOOD, "method": "x" * 2000},
    {**GOOD, "seed": -1},
    {**GOOD, "seed": 1.0},
    {**GOOD, "density": 0},
    {**GOOD, "density": "0.1"},
    {**GOOD, "control": "other"},
    {**GOOD, "more": 1},
    {"seed": 1},
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_spec_reads_as_it_validates(method: Any) -> None:
    """Equal in value, type, key and text, also when all like it were met before."""
    for other in METHODS:
        Spec.read({**GOOD, "method": other})
    plain = {**GOOD, "method": method, "density": 0.25, "seed": 3}
    read, validated = Spec.read(plain), Spec.model_validate(plain)
    assert read == validated
    assert repr(read) == repr(validated)
    assert read.key == validated.key


@pytest.mark.parametrize("plain", REFUSED, ids=lambda plain: repr(plain)[:60])
def test_what_does_not_validate_is_not_read(plain: Any) -> None:
    """With the same words."""
    with pytest.raises(ValueError) as expected:
        Spec.model_validate(plain)
    with pytest.raises(ValueError) as found:
        Spec.read(plain)
    assert str(found.value) == str(expected.value)


def test_nesting_without_end_is_refused() -> None:
    """As any other value that is not plain."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="takes one plain value"):
        Spec.read({**GOOD, "method": {"name": "snip", "a": deep}})


def test_the_rows_of_many_are_those_of_each(record_factory: Callable[..., Record]) -> None:
    """Labels that were made before are those of this name, with its options."""
    records = [record_factory(method=method, seed=seed) for method in METHODS for seed in (0, 1)]
    rows = Rows()
    for record in [*records, *records]:
        assert rows.of(*Record.with_spec(record.plain())) == row_of(record)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "1" + "0" * 400 + ".0"])
def test_a_number_without_end_is_refused_where_the_seal_fits(number: str) -> None:
    """By the bytes as they stand too: a seal says that nothing changed, not that it is sound."""

    def sealed(number: str) -> bytes:
        rest = f'{{"accuracy":{number}'
        return f'{rest},"seal":"{sha256(f"{rest}}}".encode()).hexdigest()}"}}'.encode()

    assert unseal(sealed("0.5")) == {"accuracy": 0.5}
    with pytest.raises(Corrupt, match="not valid JSON"):
        unseal(sealed(number))

"""Every column of the frame of runs has a type and a meaning."""

from paibench.benchmark.record import Environment, Record
from paibench.leaderboard.columns import COLUMNS, ENVIRONMENT


def test_every_field_of_a_record_is_a_column() -> None:
    """Nothing that a record says is lost: spec and environment are flat, the rest as it is."""
    fields = {field.alias or name for name, field in Record.model_fields.items()}
    assert fields - {"spec", "environment"} <= set(COLUMNS)


def test_every_field_of_an_environment_is_a_column() -> None:
    """The environment columns are exactly the fields of an environment."""
    assert set(ENVIRONMENT) == set(Environment.model_fields)


def test_every_column_has_a_meaning_of_its_own() -> None:
    """No meaning is empty."""
    assert all(column.meaning for column in COLUMNS.values())

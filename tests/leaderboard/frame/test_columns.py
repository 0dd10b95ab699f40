"""Every column of the frame of runs has a type and a meaning."""

import re
from pathlib import Path

import pytest

from paibench.benchmark.record import Environment, Record
from paibench.leaderboard.frame.columns import COLUMNS, ENVIRONMENT, page


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


# The manual's page of columns is the one that the code makes, and its example
# runs.

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "frame.md"


def test_the_page_is_up_to_date() -> None:
    """Made again it is the same; the page says how to make it."""
    assert PUBLISHED.read_text(encoding="utf-8") == page()


def test_every_column_has_one_row() -> None:
    """With its type and its meaning, in their order."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| [^|]+ \| (.+) \|$", page(), flags=re.M)
    assert rows == [(name, column.dtype, column.meaning) for name, column in COLUMNS.items()]


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, in the root of the checkout."""
    monkeypatch.chdir(ROOT)
    [block] = re.findall(r"^```python\n(.*?)^```", page(), flags=re.M | re.S)
    found: dict[str, object] = {}
    exec(compile(block, "docs/frame.md", "exec"), found)
    assert "runs" in found

"""The manual's page of columns is the one that the code makes, and its example runs."""

import re
from pathlib import Path

import pytest

from paibench.leaderboard.columns import COLUMNS
from paibench.leaderboard.dictionary import page

ROOT = Path(__file__).parent.parent
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

"""Any view as CSV reads back as it was, and no cell of it is a formula."""

import csv as reader
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.leaderboard.spreadsheet import csv


def read(text: str) -> list[list[str]]:
    return list(reader.reader(io.StringIO(text, newline="")))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.text(max_size=10))
def test_no_cell_is_a_formula(words: list[str], name: str) -> None:
    """Neither a value nor the name of a column; each row is one row."""
    rows = read(csv(pd.DataFrame({"n": range(len(words)), name + "x": words})))
    assert len(rows) == 1 + len(words)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_numbers_are_whole_and_lists_are_joined() -> None:
    """Full precision, negative numbers included; a gap is empty."""
    view = pd.DataFrame({"a": [-0.1, 1 / 3], "layers": [["fc1", "=fc2"], None], "t": ["x", None]})
    assert read(csv(view)) == [
        ["a", "layers", "t"],
        ["-0.1", "fc1; =fc2", "x"],
        ["0.3333333333333333", "", ""],
    ]


@pytest.mark.parametrize("name", ["=1+1", "@x", "a"])
def test_the_view_is_left_as_it_was(name: str) -> None:
    """A copy is made safe, not the frame."""
    view = pd.DataFrame({name: ["=1"]})
    csv(view)
    assert view.equals(pd.DataFrame({name: ["=1"]}))

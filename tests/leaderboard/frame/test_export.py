"""Views of the frame are written as Parquet and CSV, completely and safely."""

import csv as reader
import io
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from paibench.benchmark.record import Record
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.export import csv, parquet
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of

RecordFactory = Callable[..., Record]


@pytest.fixture
def runs(record_factory: RecordFactory) -> pd.DataFrame:
    """Two runs, and one without a record."""
    rows = [row_of(record_factory(seed=seed, collapsed=["fc1.weight"] * seed)) for seed in (0, 1)]
    asked = {name: rows[0][name] for name in ("dataset", "model", "recipe", "init", "method",
             "method_label", "control", "density_asked")}  # fmt: skip
    missing = asked | {"key": "0" * 40, "seed": 2, "status": "missing"}
    return tabulate([*rows, missing])


def test_what_is_written_is_what_is_read(runs: pd.DataFrame) -> None:
    """Values and gaps of every column, lists as lists."""
    found = pd.read_parquet(io.BytesIO(parquet(runs)))
    expected = runs.sort_values("key").reset_index(drop=True)
    assert list(found.columns) == list(COLUMNS)
    for name in COLUMNS:
        ours, theirs = expected[name], found[name]
        assert list(ours.isna()) == list(theirs.isna()), name
        for one, other in zip(ours[ours.notna()], theirs[theirs.notna()], strict=True):
            assert (list(one) == list(other)) if isinstance(one, list) else one == other, name


def test_every_column_is_described(runs: pd.DataFrame) -> None:
    """In the schema, where any reader of Parquet finds it."""
    schema = pq.read_schema(io.BytesIO(parquet(runs)))
    said = {field.name: field.metadata[b"description"].decode() for field in schema}
    assert said == {name: column.meaning for name, column in COLUMNS.items()}


def test_the_runs_of_a_board_have_their_level(runs: pd.DataFrame) -> None:
    """As a column that is described like the others."""
    data = io.BytesIO(parquet(runs.assign(mark="checked")))
    assert set(pd.read_parquet(data)["mark"]) == {"checked"}
    assert b"verified" in pq.read_schema(data).field("mark").metadata[b"description"]


def test_bytes_are_a_function_of_the_runs(runs: pd.DataFrame) -> None:
    """Whatever their order in the frame, and its index."""
    assert parquet(runs) == parquet(runs.iloc[::-1]) == parquet(runs.sample(frac=1, random_state=1))


def test_no_runs_are_a_file_too(runs: pd.DataFrame) -> None:
    """With all columns and no row."""
    found = pq.read_table(io.BytesIO(parquet(runs.iloc[:0])))
    assert found.num_rows == 0 and found.column_names == list(COLUMNS)


# Any view as CSV reads back as it was, and no cell of it is a formula.


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

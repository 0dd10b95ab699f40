"""The frame of runs as Parquet: all columns, each described, the same bytes for the same runs."""

import io
from collections.abc import Callable

import pandas as pd
import pytest
from pyarrow import parquet as pq

from paibench.benchmark.record import Record
from paibench.leaderboard.columns import COLUMNS
from paibench.leaderboard.frame import row_of, tabulate
from paibench.leaderboard.parquet import parquet

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


def test_bytes_are_a_function_of_the_runs(runs: pd.DataFrame) -> None:
    """Whatever their order in the frame, and its index."""
    assert parquet(runs) == parquet(runs.iloc[::-1]) == parquet(runs.sample(frac=1, random_state=1))


def test_no_runs_are_a_file_too(runs: pd.DataFrame) -> None:
    """With all columns and no row."""
    found = pq.read_table(io.BytesIO(parquet(runs.iloc[:0])))
    assert found.num_rows == 0 and found.column_names == list(COLUMNS)

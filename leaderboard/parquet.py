"""The frame of runs as Parquet, each column with what it means beside it."""

import io

import pandas as pd
import pyarrow as pa
from pyarrow import parquet as pq

from paibench.leaderboard.columns import COLUMNS

_TYPES = {
    "str": pa.string(),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "Int64": pa.int64(),
    "boolean": pa.bool_(),
}
_LISTS = {
    "layer_names": pa.list_(pa.string()),
    "layer_sizes": pa.list_(pa.int64()),
    "layer_kept": pa.list_(pa.int64()),
    "collapsed": pa.list_(pa.string()),
}


def schema() -> pa.Schema:
    """Name, type and meaning of each column; the meaning is the field's `description`."""
    return pa.schema(
        [
            pa.field(
                name,
                _LISTS.get(name) or _TYPES[column.dtype],
                metadata={"description": column.meaning},
            )
            for name, column in COLUMNS.items()
        ]
    )


def parquet(runs: pd.DataFrame) -> bytes:
    """The runs, in order of key, compressed; the same runs give the same bytes.

    As long as pyarrow is of one version: its name stands in every file.
    """
    ordered = runs.sort_values("key", kind="stable")[list(COLUMNS)]
    known = schema()
    columns = [
        pa.Array.from_pandas(_plain(ordered[field.name]), type=field.type) for field in known
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=known), buffer, compression="zstd")
    return buffer.getvalue()


def _plain(column: pd.Series) -> pd.Series:
    """Missing lists are None, as pyarrow wants it; everything else as it is."""
    if column.dtype != object:
        return column
    return column.map(lambda value: value if isinstance(value, list) else None)

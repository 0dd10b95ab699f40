"""Views of the frame as files: Parquet with descriptions of its columns, and CSV."""

import io
from functools import lru_cache

import pandas as pd
import pyarrow as pa
from pyarrow import parquet as pq

from paibench.leaderboard import format
from paibench.leaderboard.frame.columns import COLUMNS

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
    "notes": pa.list_(pa.string()),
    "mask_distances": pa.list_(pa.list_(pa.float64())),
}


def schema() -> pa.Schema:
    """Return the Parquet schema; each field has the meaning of its column as `description`."""
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
    """Return the runs, in order of key, as a compressed Parquet file.

    Runs of a board have one more column, `mark`, the verification level of each. The same runs give
    the same bytes with the same version of pyarrow, which every file names.
    """
    fields = schema()
    if "mark" in runs:
        meaning = {"description": "how far the run was verified"}
        fields = fields.append(pa.field("mark", pa.string(), metadata=meaning))
    ordered = runs.sort_values("key", kind="stable")[fields.names]
    # `DataFrame.to_parquet` would drop the descriptions and add pandas' own metadata.
    columns = [
        pa.Array.from_pandas(_plain(ordered[field.name]), type=field.type) for field in fields
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=fields), buffer, compression="zstd")
    return buffer.getvalue()


def _plain(column: pd.Series) -> pd.Series:
    """Replace missing lists by None, as pyarrow requires."""
    if column.dtype != object:
        return column
    return column.map(lambda value: value if isinstance(value, list) else None)


def csv(view: pd.DataFrame) -> str:
    """Return a frame as CSV at full precision, without its index; lists joined by semicolons."""
    safe = view.copy()
    for name in view.select_dtypes(["str", "object"]):
        safe[name] = view[name].map(_cell)
    safe.columns = pd.Index([format.spreadsheet(str(name)) for name in view.columns])
    return safe.to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    if isinstance(value, list | tuple):
        return _text("; ".join(map(str, value)))
    return _text(value) if isinstance(value, str) else value


_text = lru_cache(maxsize=65_536)(format.spreadsheet)  # most texts occur in many runs

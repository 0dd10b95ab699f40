"""Views of the frame as files: Parquet with descriptions of its columns, CSV and LaTeX."""

import io
import re
from functools import lru_cache

import pandas as pd
import pyarrow as pa
from pyarrow import parquet as pq

from paibench.leaderboard import format
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.tables import Table, legend, text_rows

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

    The same runs give the same bytes with the same version of pyarrow, which every file names.
    """
    ordered = runs.sort_values("key", kind="stable")[list(COLUMNS)]
    fields = schema()
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


# LaTeX. pandas' Styler.to_latex leaves quotes, brackets, dashes and most of Unicode unescaped, and
# the names in a table come from other people's records.

_MARKS = {
    **{mark: f"\\{mark}" for mark in "&%$#_"},
    "{": r"\textbraceleft{}",  # BibTeX counts an escaped brace as a brace
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",  # not every font encoding has the straight quote
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after `\\\\` it would start an argument
    "*": "{*}",  # after `\\\\` it would be part of the command
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "…": r"\dots{}",
}
_JOINT = "\0"  # stands for a hyphen before another one, which would become a dash
_MARKS[_JOINT] = "-{}"
_LETTERS = {chr(code) for code in range(0xC0, 0x100)} - set("ÐÞðþ×÷")


def text(words: str, limit: int = 120) -> str:
    """Return plain text as LaTeX; characters that common fonts lack become question marks."""
    characters = re.sub("-(?=-)", _JOINT, format.plain(words, limit))
    return "".join(map(_mark, characters))


def latex(table: Table) -> str:
    """Return a table as a float with caption and notes, without a label."""
    head, *rows = text_rows(table)
    columns = "l" + "r" * (len(head) - 1)
    notes = [rf"\par {text(note, 400)}" for note in legend(table)]
    if notes:
        notes = [r"\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{text(table.title, 400)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(head),
            r"\midrule",
            *map(_row, rows),
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _row(cells: list[str]) -> str:
    return " & ".join(map(text, cells)) + r" \\"


def _mark(mark: str) -> str:
    return _MARKS.get(mark) or (mark if mark.isascii() or mark in _LETTERS else "?")

"""Views of the frame are written as Parquet, CSV and LaTeX, completely and safely."""

import csv as reader
import io
import re
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from paibench.benchmark.record import Record
from paibench.leaderboard import format
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.export import (
    _MARKS,
    csv,
    latex,
    parquet,
    text,
)
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.tables import Cell, Column, Row, Table

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


# A table as LaTeX has the table's structure, and nothing in it is a command or a
# comment.

# What `text` may write for one character, the longest first; anything else must be harmless.
WRITTEN = sorted({*_MARKS.values(), "-{}"}, key=len, reverse=True)
SPECIAL = set("\\{}$&#^_%~<>|\"'`[*")
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


def read_latex(written: str) -> str:
    """The text behind LaTeX, by an independent scan from left to right."""
    names = {value: key for key, value in _MARKS.items()} | {"-{}": "-"}
    found, place = "", 0
    while place < len(written):
        for each in WRITTEN:
            if written.startswith(each, place):
                found += names[each]
                place += len(each)
                break
        else:
            assert written[place] not in SPECIAL, written
            found += written[place]
            place += 1
    return found


@given(st.text(max_size=80))
def test_no_special_character_is_left(words: str) -> None:
    """Whatever a record says, what is not an escape of ours is plain ASCII or a Latin letter."""
    rest = text(words)
    for each in WRITTEN:
        rest = rest.replace(each, " ")
    assert not SPECIAL & set(rest)
    assert all(mark.isascii() or "À" <= mark <= "ÿ" for mark in rest)


@given(PRINTABLE)
def test_nothing_is_lost(words: str) -> None:
    """Every printable ASCII text can be read back; hyphens in a row are not joined."""
    written = text(words, 200)
    assert read_latex(written) == format.plain(words, 200)
    assert "--" not in written


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("97.7 ± 0.2", r"97.7 $\pm$ 0.2"),
        ("–", "--"),
        ("90 %", r"90 \%"),
        ("edge_popup‡", r"edge\_popup\textdaggerdbl{}"),
        (
            r"\input{/etc/passwd}",
            r"\textbackslash{}input\textbraceleft{}/etc/passwd\textbraceright{}",
        ),
        ("lenet-300-100", "lenet-300-100"),
        ("a--b", "a-{}-b"),
        ("[x]*", "{[}x]{*}"),
        ("é中\x1b\u202e", "é?"),
    ],
)
def test_characters(words: str, expected: str) -> None:
    """Commands become their letters, signs of ours signs, invisible characters nothing."""
    assert text(words) == expected


def table_of(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]], *notes: str) -> Table:
    first, *others = head
    columns = tuple(Column(name, name) for name in others)
    shown = tuple(Row(name, "", tuple(map(Cell, cells))) for name, *cells in rows)
    return Table("id", title, "", first, columns, shown, notes=notes)


def test_structure() -> None:
    """One float with rules of booktabs, one line per row, one column per name of the head."""
    table = table_of("a & b", ("method", "0 %", "90 %"), [("x_1", "90.0 ± 0.1", "–")] * 2, "50 %.")
    lines = latex(table).splitlines()
    assert lines[:2] == [r"\begin{table}", r"\centering"] and lines[-1] == r"\end{table}"
    assert r"\caption{a \& b}" in lines and r"\begin{tabular}{lrr}" in lines
    start, middle, end = (lines.index(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule"))
    assert lines[start + 1 : middle] == [r"method & 0 \% & 90 \% \\"]
    assert lines[middle + 1 : end] == [r"x\_1 & 90.0 $\pm$ 0.1 & -- \\"] * 2
    assert r"\par 50 \%." in lines


CELLS = st.lists(st.text(max_size=20), min_size=3, max_size=3).map(tuple)


@given(
    st.text(max_size=30), st.lists(CELLS, max_size=3), st.lists(st.text(max_size=30), max_size=2)
)
def test_hostile_text_changes_no_structure(
    title: str, rows: list[tuple[str, ...]], notes: list[str]
) -> None:
    """As many rows and columns as the table has, every environment closed, every brace balanced."""
    written = latex(table_of(title, ("a", "b", "c"), rows, *notes))
    body = written.partition("\\toprule\n")[2].partition("\\bottomrule")[0].splitlines()
    body.remove(r"\midrule")
    assert len(body) == 1 + len(rows)
    assert all(line.endswith(r" \\") and line.count(" & ") == 2 for line in body)
    assert written.count(r"\begin{") == written.count(r"\end{")
    assert written.count("{") == written.count("}")
    assert not re.search(r"(?<!\\)%", written)

"""A table as LaTeX has the table's structure, and nothing in it is a command or a comment."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.leaderboard import escape
from paibench.leaderboard.latex import _MARKS, latex, text
from paibench.leaderboard.table import Table

# What `text` may write for one character, the longest first; anything else must be harmless.
WRITTEN = sorted({*_MARKS.values(), "-{}"}, key=len, reverse=True)
SPECIAL = set("\\{}$&#^_%~<>|\"'`[*")
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


def read(written: str) -> str:
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
    assert read(written) == escape.plain(words, 200)
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


def test_structure() -> None:
    """One float with rules of booktabs, one line per row, one column per name of the head."""
    table = Table("a & b", ("method", "0 %", "90 %"), (("x_1", "90.0 ± 0.1", "–"),) * 2, ("50 %.",))
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
    written = latex(Table(title, ("a", "b", "c"), tuple(rows), tuple(notes)))
    body = written.partition("\\toprule\n")[2].partition("\\bottomrule")[0].splitlines()
    body.remove(r"\midrule")
    assert len(body) == 1 + len(rows)
    assert all(line.endswith(r" \\") and line.count(" & ") == 2 for line in body)
    assert written.count(r"\begin{") == written.count(r"\end{")
    assert written.count("{") == written.count("}")
    assert not re.search(r"(?<!\\)%", written)

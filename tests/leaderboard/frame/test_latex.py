"""A table as LaTeX has the table's structure, fits the text, and no name in it is a command."""

import re
import subprocess
from pathlib import Path

import pytest
from accuracies import ERK, runs_of
from hypothesis import given
from hypothesis import strategies as st

from paibench.leaderboard import format
from paibench.leaderboard.build import build
from paibench.leaderboard.frame.citations import cite_runs, keys_of
from paibench.leaderboard.frame.latex import _MARKS, PACKAGES, latex, text
from paibench.leaderboard.tables import Cell, Column, Row, Table

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


def lines_of(table: Table, **cited: tuple[str, ...]) -> list[str]:
    return latex(table, "a-b", cited).splitlines()


def test_structure() -> None:
    """One float with rules of booktabs, one line per row, one column per name of the head."""
    table = table_of("a & b", ("method", "0 %", "90 %"), [("x_1", "90.0 ± 0.1", "–")] * 2, "50 %.")
    lines = lines_of(table)
    assert (lines[0], lines[-1]) == (r"\begin{table}", r"\end{table}")
    assert r"\caption{a \& b.}" in lines and r"\begin{tabular}{lrr}" in lines
    assert r"\label{tab:a-b}" in lines
    start, middle, end = (lines.index(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule"))
    assert lines[start + 1 : middle] == [r"method & 0 \% & 90 \% \\"]
    assert lines[middle + 1 : end] == [r"x\_1 & 90.0 $\pm$ 0.1 & -- \\"] * 2
    assert r"\par 50 \%." in lines


def test_dense_is_in_the_caption() -> None:
    """Its row is no row, and a density that nothing else has no column."""
    rows: list[tuple[str, ...]] = [("dense", "98.3 ± 0.4", "–"), ("snip‡", "–", "97.0 ± 0.1▲")]
    lines = lines_of(table_of("a", ("method", "0 %", "90 %"), rows), snip=("lee2019snip", "b"))
    assert r"\caption{a. dense: 98.3 $\pm$ 0.4.}" in lines
    assert r"\begin{tabular}{lr}" in lines
    start, end = lines.index(r"\midrule"), lines.index(r"\bottomrule")
    row = r"snip\textdaggerdbl{}~\cite{lee2019snip,b} & 97.0 $\pm$ 0.1$^\triangle$ \\"
    assert lines[start + 1 : end] == [row]


def test_cited_keys_are_in_the_bibliography() -> None:
    """Of our methods their papers, of others the entry of their plugin; dense has none."""
    runs = runs_of({("dense", 1.0): [0.9], ("imp", 0.1): [0.9], (ERK, 0.1): [0.9]})
    theirs = runs_of({("snip", 0.1): [0.9], ("a b", 0.1): [0.9]}, plugin="theirs")
    for each in (runs, theirs):
        bibliography = cite_runs(each)
        keys = {key for some in keys_of(each).values() for key in some}
        assert keys == set(re.findall(r"^@\w+\{(.*),$", bibliography, re.M))
    assert keys_of(runs)["dense"] == ()
    assert keys_of(theirs)["snip"] != keys_of(runs_of({("snip", 0.1): [0.9]}))["snip"]


CELLS = st.lists(st.text(max_size=20), min_size=3, max_size=3).map(tuple)


@given(
    st.text(max_size=30), st.lists(CELLS, max_size=3), st.lists(st.text(max_size=30), max_size=2)
)
def test_hostile_text_changes_no_structure(
    title: str, rows: list[tuple[str, ...]], notes: list[str]
) -> None:
    """As many rows and columns as the table has, every environment closed, every brace balanced."""
    written = latex(table_of(title, ("a", "b", "c"), rows, *notes), "x", {})
    body = written.partition("\\toprule\n")[2].partition("\\bottomrule")[0].splitlines()
    body.remove(r"\midrule")
    assert len(body) == 1 + sum(name != "dense" for name, *_ in rows)
    # columns in which only the dense network has a value are left out
    (columns,) = re.findall(r"begin\{tabular\}\{l(r{0,2})\}", written)
    assert all(line.endswith(r" \\") and line.count(" & ") == len(columns) for line in body)
    assert len(columns) == 2 or any(name == "dense" for name, *_ in rows)
    assert written.count(r"\begin{") == written.count(r"\end{")
    assert written.count("{") == written.count("}")
    assert not re.search(r"(?<!\\)%", written.replace("%\n", "\n"))


PAPER = r"""
\documentclass{article}
%s
\begin{document}
A table, in one column and in two.
%s
\bibliographystyle{plain}
\bibliography{methods}
\end{document}
"""


@pytest.mark.latex
@pytest.mark.parametrize("options", ["", "[twocolumn]"])
@pytest.mark.parametrize("store", ["mnist-lenet", "fashion-mnist-early-bird"])
def test_an_article_compiles_without_overfull_boxes(
    tmp_path: Path, options: str, store: str
) -> None:
    """The tables, the BibTeX and a figure, as an author copies them; every citation is found."""
    root = Path(__file__).parents[3] / "results" / store
    build([root], tmp_path)
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    figure = next((tmp_path / "figures").glob("accuracy-*.pdf")).rename(tmp_path / "figure.pdf")
    body = rf"""\input{{leaderboard}}
\begin{{figure}}\includegraphics[width=\linewidth]{{{figure.name}}}\end{{figure}}"""
    paper = (PAPER % (packages, body)).replace("{article}", f"{options}{{article}}")
    (tmp_path / "paper.tex").write_text(paper)
    commands = [["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]] * 3
    commands.insert(1, ["bibtex", "paper"])
    for command in commands:
        # what TeX prints is in the encodings of its fonts
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="latin-1")
        assert done.returncode == 0, done.stdout
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert not re.findall(r"Overfull.*|LaTeX Warning: (?:Citation|Reference).*", log)
    assert r"\bibcite" in (tmp_path / "paper.aux").read_text()

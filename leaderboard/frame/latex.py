"""Tables as LaTeX that fits the width of a text or a column, with citations and a label."""

import re
from collections.abc import Mapping, Sequence

from paibench.leaderboard import format
from paibench.leaderboard.tables import Table, legend, text_rows

PACKAGES = ("booktabs", "graphicx")
"""What a document that has these tables must load."""

# pandas' Styler.to_latex leaves quotes, brackets, dashes and most of Unicode unescaped, and the
# names in a table come from other people's records.
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
    "▲": r"$^\triangle$",
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


def latex(table: Table, label: str, cited: Mapping[str, Sequence[str]]) -> str:
    """Return a table as a float with caption, label and notes, no wider than the text.

    The row `dense` is a part of the caption, and the density of `dense` alone is no column. `cited`
    has the BibTeX keys to cite for a row, by its name. A table that would be too wide is made
    smaller.
    """
    head, *rows = text_rows(table)
    dense = next((row for row in rows if row[0] == "dense"), None)
    rows = [row for row in rows if row is not dense]
    used = [
        index
        for index in range(len(head))
        if not index or not dense or any(row[index] != format.GAP for row in rows)
    ]
    reference = "" if dense is None else _reference(head, dense)
    caption = ". ".join(filter(None, [table.title, reference]))
    notes = [rf"\par {_breakable(text(note, 400))}" for note in legend(table)]
    cells = [[text(row[index]) for index in used] for row in [head, *rows]]
    for row, written in zip(rows, cells[1:], strict=True):
        if keys := cited.get(row[0].removesuffix(format.ELSEWHERE)):
            written[0] += rf"~\cite{{{','.join(keys)}}}"
    first, *others = [f"{' & '.join(row)} \\\\" for row in cells]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\sloppy",
            rf"\caption{{{_breakable(text(caption, 600))}.}}",
            rf"\label{{tab:{label}}}",
            r"\setlength{\tabcolsep}{4pt}",
            r"\sbox0{%",
            rf"\begin{{tabular}}{{{'l' + 'r' * (len(used) - 1)}}}",
            r"\toprule",
            first,
            r"\midrule",
            *others,
            r"\bottomrule",
            r"\end{tabular}}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            r"\par\medskip",
            *(
                [r"\begin{minipage}{\linewidth}\scriptsize\sloppy", *notes, r"\end{minipage}"]
                if notes
                else []
            ),
            r"\end{table}",
            "",
        ]
    )


def _reference(head: Sequence[str], dense: Sequence[str]) -> str:
    """Return the accuracy of the dense network in words: "dense: 98.3 ± 0.4"."""
    values = [cell for cell in dense[1:] if cell != format.GAP]
    return f"dense: {', '.join(values)}" if values else ""


def _breakable(written: str) -> str:
    """Allow a line to end within names with options, which have no spaces."""
    return re.sub(r"(\\_|[=/]|[(,](?=[a-z]))(?=\w)", r"\1\\allowbreak{}", written)


def _mark(mark: str) -> str:
    return _MARKS.get(mark) or (mark if mark.isascii() or mark in _LETTERS else "?")

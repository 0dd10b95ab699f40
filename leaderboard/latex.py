r"""A table as LaTeX with booktabs; nothing in it is a command.

It wants LaTeX of 2020 or later, and `\usepackage{booktabs}`.
"""

import re

from paibench.leaderboard import escape
from paibench.leaderboard.table import Table

_MARKS = {
    **{mark: f"\\{mark}" for mark in "&%$#_"},
    "{": r"\textbraceleft{}",  # BibTeX counts an escaped brace like any other
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",  # the straight one is not in every encoding
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after the end of a row it would be an argument
    "*": "{*}",  # and this a star
    "±": r"$\pm$",
    "–": "--",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "…": r"\dots{}",
}
_JOINT = "\0"  # no plain text has it: a hyphen that the next one would join to a dash
_MARKS[_JOINT] = "-{}"
_LETTERS = {chr(code) for code in range(0xC0, 0x100)} - set("ÐÞðþ×÷")


def text(words: str, limit: int = 120) -> str:
    """Plain text as LaTeX; what its usual fonts lack becomes a question mark."""
    shown = re.sub("-(?=-)", _JOINT, escape.plain(words, limit))
    return "".join(map(_mark, shown))


def latex(table: Table) -> str:
    """The table as a float: title as caption, notes below; no label, since that is the paper's."""
    columns = "l" + "r" * (len(table.head) - 1)
    notes = [rf"\par {text(note, 400)}" for note in table.notes]
    if notes:
        notes = [r"\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{text(table.title, 400)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(table.head),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(text, cells)) + r" \\"


def _mark(mark: str) -> str:
    return _MARKS.get(mark) or (mark if mark.isascii() or mark in _LETTERS else "?")

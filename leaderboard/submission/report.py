"""A report of validation: for a terminal, for a program, and for the page of a pull request."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from paibench.leaderboard import format
from paibench.leaderboard.submission.findings import SEVERITIES, Finding
from paibench.leaderboard.submission.validate import Report

_SHOWN = 50
_COLUMNS = ("check", "file", "expected", "came")


def headline(report: Report) -> str:
    """One line: what was read, and how many findings of each severity there are."""
    found = Counter(each.severity for each in report.findings)
    counts = [(found[severity], severity) for severity in SEVERITIES if found[severity]]
    said = ", ".join(f"{number} {name}{'s' * (number > 1)}" for number, name in counts)
    verdict = "sound" if report.sound else "not sound"
    read = f"{report.records} records, {report.new} of them new"
    return f"{verdict}: {read}; {said or 'no findings'}"


def terminal(report: Report) -> Table:
    """The findings as a table, the first fifty; equal ones of several files are one row."""
    table = Table(title=format.plain(str(report.root)), title_justify="left", show_lines=True)
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for row in _rows(report)[:_SHOWN]:
        # as Text, in which brackets are no markup
        table.add_row(*(Text(format.plain(cell, 200)) for cell in row))
    return table


def mends(report: Report) -> list[str]:
    """What to do, once for each check that found something."""
    said = {each.check: each.mend for each in report.findings if each.severity != "note"}
    return [f"{check}: {mend}" for check, mend in said.items()]


def more(report: Report) -> str | None:
    """How many findings the table leaves out, in words."""
    rest = len(_rows(report)) - _SHOWN
    return f"and {rest} more; --json has all" if rest > 0 else None


def plain(report: Report) -> dict[str, Any]:
    """All of the report as JSON values."""
    return {
        "root": str(report.root),
        "sound": report.sound,
        "records": report.records,
        "new": report.new,
        "findings": [asdict(each) for each in report.findings],
    }


def markdown(report: Report) -> str:
    """The report as a page, in which no text of a record is markup."""
    lines = ["# Results", "", f"{headline(report).capitalize()}.", ""]
    if report.findings:
        lines += [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    for row in _rows(report)[:_SHOWN]:
        lines.append(f"| {' | '.join(format.markdown(cell, 200) for cell in row)} |")
    if rest := more(report):
        lines += ["", f"{rest.capitalize()}."]
    if report.findings:
        lines += ["", *(f"- {format.markdown(line, 200)}" for line in mends(report))]
    return "\n".join([*lines, ""])


def _rows(report: Report) -> list[tuple[str, ...]]:
    """The cells of each row, in the order of the findings."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for each in report.findings:
        what = f"{each.check} ({each.severity})", each.expected, each.came
        alike.setdefault(what, []).append(each)
    return [
        (check, f"{first.file}{f' and {len(others)} more' if others else ''}", expected, came)
        for (check, expected, came), (first, *others) in alike.items()
    ]

"""The report of a validation, for a terminal, for a program and for a pull request."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from paibench.leaderboard import format
from paibench.leaderboard.submission.findings import SEVERITIES, Finding
from paibench.leaderboard.submission.validate import Report

_SHOWN = 50
_COLUMNS = ("check", "file", "expected", "actual")


def headline(report: Report) -> str:
    """Return one line: the verdict, the number of records, and the number of findings."""
    by_severity = Counter(each.severity for each in report.findings)
    counts = [(by_severity[severity], severity) for severity in SEVERITIES if by_severity[severity]]
    findings = ", ".join(f"{number} {name}{'s' * (number > 1)}" for number, name in counts)
    verdict = "valid" if report.valid else "not valid"
    return f"{verdict}: {report.records} records, {report.new} new; {findings or 'no findings'}"


def terminal(report: Report) -> Table:
    """Return the first fifty rows of findings as a table; equal findings share a row."""
    table = Table(title=format.plain(str(report.root)), title_justify="left", show_lines=True)
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for row in _rows(report)[:_SHOWN]:
        # As Text, because brackets in a string would be markup.
        table.add_row(*(Text(format.plain(cell, 200)) for cell in row))
    return table


def fixes(report: Report) -> list[str]:
    """Return what to do, once for each check that found an error or a warning."""
    # A fix belongs to the check, not to the file, and a note needs no action.
    fix_of = {each.check: each.fix for each in report.findings if each.severity != "note"}
    return [f"{check}: {fix}" for check, fix in fix_of.items()]


def more(report: Report) -> str | None:
    """Return a line that says how many rows the table leaves out, if any."""
    rest = len(_rows(report)) - _SHOWN
    return f"and {rest} more; --json prints all of them" if rest > 0 else None


def plain(report: Report) -> dict[str, Any]:
    """Return the whole report as JSON values."""
    return {
        "root": str(report.root),
        "valid": report.valid,
        "records": report.records,
        "new": report.new,
        "findings": [asdict(each) for each in report.findings],
    }


def markdown(report: Report) -> str:
    """Return the report as Markdown; no text of a record becomes markup."""
    lines = ["# Results", "", f"{headline(report).capitalize()}.", ""]
    if report.findings:
        lines += [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    for row in _rows(report)[:_SHOWN]:
        lines.append(f"| {' | '.join(format.markdown(cell, 200) for cell in row)} |")
    if rest := more(report):
        lines += ["", f"{rest.capitalize()}."]
    if report.findings:
        lines += ["", *(f"- {format.markdown(line, 200)}" for line in fixes(report))]
    return "\n".join([*lines, ""])


def _rows(report: Report) -> list[tuple[str, ...]]:
    """Return the cells of each row, in the order of the findings."""
    # One mistake often affects every record, and would fill the table with equal rows.
    equal: dict[tuple[str, ...], list[Finding]] = {}
    for each in report.findings:
        row = f"{each.check} ({each.severity})", each.expected, each.actual
        equal.setdefault(row, []).append(each)
    return [
        (check, f"{first.file}{f' and {len(others)} more' if others else ''}", expected, actual)
        for (check, expected, actual), (first, *others) in equal.items()
    ]

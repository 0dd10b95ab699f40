"""Text from records made safe to show: in a terminal, in markdown, in a spreadsheet."""

import unicodedata

_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {mark: f"\\{mark}" for mark in "\\|`*[]~"}


def plain(text: str, limit: int = 120) -> str:
    """One line without control, bidirectional and other invisible characters, cut at `limit`."""
    line = " ".join(text.split())
    shown = "".join(mark for mark in line if unicodedata.category(mark)[0] != "C")
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def markdown(text: str, limit: int = 120) -> str:
    """Plain text as the inside of a markdown table cell: nothing in it is markup or HTML."""
    return "".join(_MARKDOWN.get(mark, mark) for mark in plain(text, limit))


def spreadsheet(text: str) -> str:
    """Plain text as a CSV cell that no spreadsheet takes for a formula."""
    shown = plain(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def ascii_only(text: str, limit: int = 120) -> str:
    """Plain text with a question mark for each character that a font may lack."""
    return plain(text, limit).encode("ascii", "replace").decode()


def clean(text: str) -> str:
    """Text of a record, fit for a page: one line, nothing invisible, at most 400 characters."""
    if len(text) <= 400 and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()  # nearly always, and a report has millions
    return plain(text, 400)

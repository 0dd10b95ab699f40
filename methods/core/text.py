"""Text that is safe to print: one line of printable characters.

Names and messages of third parties may hold line breaks or terminal escapes, which would forge
lines of a log or a report.
"""


def printable(text: object) -> str:
    """Return a text in which each character that cannot be printed is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def one_line(text: str) -> str:
    """Return a text as one printable line of at most 300 characters."""
    # cut before the work, because a message may have gigabytes
    line = " ".join(text[:3000].split())
    return printable(line)[:300]


def in_words(error: BaseException) -> str:
    """Return an exception as one line: its type and its message."""
    try:
        text = str(error).strip() or "no message"
    except Exception:  # a third party's __str__ may raise anything
        text = "its message cannot be read"
    return one_line(f"{type(error).__name__}: {text}")

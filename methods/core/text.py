"""Text that is safe to print: one line, printable characters only."""


def one_line(text: str) -> str:
    """A text as one printable line of at most 300 characters."""
    line = " ".join(text[:3000].split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)[:300]


def in_words(error: BaseException) -> str:
    """An exception as one line: its type and what it says."""
    try:
        text = str(error).strip() or "no message"
    except Exception:
        text = "its message cannot be read"
    return one_line(f"{type(error).__name__}: {text}")

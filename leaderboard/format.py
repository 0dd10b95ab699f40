"""How numbers, names and text from records are printed, safely for each kind of output."""

import math
import unicodedata
from typing import Any

import pandas as pd

GAP = "–"
"""The text of a cell that no run was asked for."""
BEST, BEATS, UNLIKE, CONFLICT, ELSEWHERE = "◆", "▲", "*", "†", "‡"
"""Signs of a cell: Pareto-optimal, beats both random floors, mixed environments, not repeatable,
not at initialization."""
LONGEST = 400
"""The most characters of one text that a page shows."""

_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {mark: f"\\{mark}" for mark in "\\|`*[]~"}


def plain(text: str, limit: int = 120) -> str:
    """Return one line without control, bidirectional and invisible characters, cut at `limit`."""
    line = " ".join(text.split())
    # Characters of category C are invisible, and some reverse the order of the text.
    visible = "".join(mark for mark in line if unicodedata.category(mark)[0] != "C")
    return visible if len(visible) <= limit else f"{visible[: limit - 1]}…"


def markdown(text: str, limit: int = 120) -> str:
    """Return plain text for a Markdown table cell, with all markup and HTML escaped."""
    return "".join(_MARKDOWN.get(mark, mark) for mark in plain(text, limit))


def spreadsheet(text: str) -> str:
    """Return plain text for a CSV cell that no spreadsheet reads as a formula."""
    # Spreadsheets read a cell that begins with an apostrophe as text.
    line = plain(text)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def ascii_only(text: str, limit: int = 120) -> str:
    """Return plain text with a question mark for each character that a font may lack."""
    return plain(text, limit).replace("…", "...").encode("ascii", "replace").decode()


def clean(text: str) -> str:
    """Return text of a record for a page: one line, nothing invisible, at most `LONGEST` long."""
    if len(text) <= LONGEST and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()  # the usual case, and a large site has millions of texts
    return plain(text, LONGEST)


def row_name(method_label: str, control: str) -> str:
    """Return the name of a row: the label of the method, and its control if it has one."""
    return method_label if control == "none" else f"{method_label}, {control}"


def prunable_counts(cells: pd.DataFrame) -> tuple[str, str]:
    """Return the prunable weights of the networks of some cells, and their share if it is small."""
    # Runs of one track should agree on these numbers; if they do not, all are shown.
    counts = (f"{int(count):,}" for count in sorted(cells["prunable"].dropna().unique()))
    # NaN for records that do not have the number of parameters
    share = (cells["prunable"] / cells["parameters"]).astype("float64").min()
    # cut, because 94.96 % rounded to 95.0 % would not look small
    small = f" ({math.floor(1000 * share) / 10} % of all parameters)" if share < 0.95 else ""
    return " or ".join(counts) or "unknown", small


def sparsity_percent(density: float) -> str:
    """Return a density as sparsity, with three digits of the fraction kept: 0.0562 → 94.38 %"""
    # 99.9 % and 99.99 % keep tenfold different numbers of weights and must look different.
    kept_percent = 100 * density
    digits = max(0, 2 - math.floor(math.log10(kept_percent)))
    text = f"{100 - kept_percent:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def common_n(counts: pd.Series) -> int:
    """Return the commonest number of runs behind a mean; the larger one if two are as common."""
    modes = counts[counts > 0].mode()
    return int(modes.max()) if len(modes) else 0


def number(value: Any) -> float | None:
    """Return a number that can be printed, or None for NaN, infinity and <NA>."""
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(mean: float, low: float | None = None, high: float | None = None) -> str:
    """Return a fraction in percent, with the distances of the ends of its interval.

    97.7 ± 0.3 if both distances are equal up to a tenth of a point, and then the larger one;
    otherwise 36.3 +13.1 −11.8
    """
    text = f"{100 * mean:.1f}"
    return text + _ends(mean, low, high)


def signed(mean: float, low: float | None = None, high: float | None = None) -> str:
    """Return a difference of fractions in points: +1.2, −0.3, with its interval as `percent`.

    The sign is U+2212, which no spreadsheet reads as the start of a formula.
    """
    # The sign is that of the rounded number, so that no −0.0 is printed.
    sign = "−" if round(1000 * mean) < 0 else "+"
    return f"{sign}{100 * abs(mean):.1f}" + _ends(mean, low, high)


def _ends(mean: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    # Seeds that differ very much can have their mean outside the interval of their log-odds.
    if not low <= mean <= high:
        return f" ({100 * low:.1f} to {100 * high:.1f})"
    # In tenths, so that the printed numbers are compared.
    above, below = round(1000 * (high - mean)), round(1000 * (mean - low))
    if abs(above - below) <= 1:
        return f" ± {max(above, below) / 10:.1f}"
    return f" +{above / 10:.1f} −{below / 10:.1f}"


def amount(value: float, digits: int = 3) -> str:
    """Return a number with `digits` digits, without an exponent if it stays readable: 14,700"""
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"

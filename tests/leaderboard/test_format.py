"""Hostile text from records is shown as what it is, and does nothing."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.leaderboard.format import (
    ascii_only,
    markdown,
    percent,
    plain,
    signed,
    spreadsheet,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\u200b=1+1",
    "a|b",
    "a\nb",
    "`code`",
    "\x1b[31mred",
    "\u202eevil",
    "nul\x00",
    "trailing\\",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_plain_text_has_nothing_invisible(text: str) -> None:
    """Control and bidirectional characters are gone; the line stays one."""
    assert all(unicodedata.category(mark)[0] != "C" for mark in plain(text))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_markdown_cells_hold_no_markup(text: str) -> None:
    """No pipe, backtick, bracket or tag is left unescaped, and no line break."""
    shown = re.sub(r"\\[\\|`*\[\]~]|&(amp|lt|gt);", "", markdown(text))
    assert not re.search(r"[\\|`*\[\]~<>&\n]", shown)


@settings(derandomize=True, max_examples=100)
@given(st.text(alphabet="=+-@\t\r\n\u200b\x00 a1", max_size=8) | st.sampled_from(HOSTILE))
def test_no_spreadsheet_cell_is_a_formula(text: str) -> None:
    """Whatever stands before it, a formula's first character gets an apostrophe in front."""
    assert not re.match(r"[=+\-@\t\r]", spreadsheet(text))


def test_harmless_text_is_left_as_it_is() -> None:
    """Escaping costs an ordinary label nothing."""
    label = "edge_popup(scores=abs, epochs=20)"
    assert plain(label) == markdown(label) == spreadsheet(label) == ascii_only(label) == label


def test_long_text_is_cut_and_says_so() -> None:
    """A text over the limit ends in an ellipsis at the limit."""
    assert plain("a" * 200, limit=10) == "a" * 9 + "…"
    assert ascii_only("a" * 200, limit=10) == "a" * 9 + "..."


def test_characters_beyond_ascii_become_question_marks_in_figures() -> None:
    """A font that lacks a character is never asked for it."""
    assert ascii_only("naïve 中") == "na?ve ?"


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((None, None), "50.0"),
        ((0.48, 0.52), "50.0 ± 2.0"),
        ((0.4796, 0.5204), "50.0 ± 2.0"),
        ((0.479, 0.52), "50.0 ± 2.1"),
        ((0.478, 0.52), "50.0 +2.0 −2.2"),
        ((0.38, 0.63), "50.0 +13.0 −12.0"),
        ((0.5, 0.5), "50.0 ± 0.0"),
        ((0.6, 0.9), "50.0 (60.0 to 90.0)"),
    ],
    ids=[
        "none",
        "even",
        "even as printed",
        "a tenth",
        "more",
        "uneven",
        "no width",
        "mean outside",
    ],
)
def test_intervals(ends: tuple[float | None, float | None], text: str) -> None:
    """± only if both ends are equally far to a tenth; the same for differences, with a sign."""
    assert percent(0.5, *ends) == text
    assert signed(0.5, *ends) == f"+{text}"


def test_an_interval_of_a_loss() -> None:
    """The distances of the ends keep their meaning if the difference is negative."""
    assert signed(-0.05, -0.08, -0.01) == "−5.0 +4.0 −3.0"

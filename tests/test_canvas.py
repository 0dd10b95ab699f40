"""A figure is the same bytes in every form for the same drawing."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from paibench.leaderboard.canvas import heading, legend, pdf, png, sheet, svg

STARTS = {png: b"\x89PNG", svg: b"<?xml", pdf: b"%PDF"}


def drawn(label: str = "a") -> Figure:
    with sheet() as figure:
        axes = figure.add_subplot()
        axes.plot([1, 2], [3, 4], label=label)
        heading(axes, r"$\frac{ <b> 中", "small")
        handles, labels = axes.get_legend_handles_labels()
        legend(figure, list(handles), labels)
    return figure


@pytest.mark.parametrize("save", [png, svg, pdf])
def test_equal_drawings_are_equal_bytes(save: Any) -> None:
    """Whatever was saved of them before, and in which form."""
    first, second = drawn(), drawn()
    png(second)
    svg(second)
    found = save(first)
    assert found.startswith(STARTS[save])
    assert found == save(first) == save(second)
    assert found != save(drawn("b"))


def test_a_pdf_has_no_date_and_real_fonts() -> None:
    """Venues refuse Type 3 fonts."""
    found = pdf(drawn())
    assert b"CreationDate" not in found
    assert b"/Type3" not in found and b"/TrueType" in found or b"/CIDFontType2" in found

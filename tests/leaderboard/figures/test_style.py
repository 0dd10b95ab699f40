"""Methods look different from each other, and the same in every figure."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from paibench.leaderboard.figures.style import (
    GREY,
    dodge,
    heading,
    legend,
    line_styles,
    pdf,
    places,
    png,
    sheet,
    svg,
    zoom,
)


def test_methods_look_different() -> None:
    """As many as a leaderboard will have: no two share colour, marker and line."""
    found = line_styles([f"m{number}" for number in range(60)])
    assert len(set(found.values())) == 62


def test_the_first_nine_differ_in_colour_and_in_marker() -> None:
    """Either alone tells them apart, for those who do not see the other."""
    found = line_styles([f"m{number}" for number in range(9)])
    assert len({to_rgb(look.color) for look in found.values()}) == 11
    assert len({look.marker for name, look in found.items() if name.startswith("m")}) == 9


def luminance(color: str) -> float:
    """Return the relative luminance of a colour, by the definition of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(part * each for part, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("paper", ["#ffffff", "#fdfdfb", "#15171a"])
def test_every_colour_has_a_contrast_of_three(paper: str) -> None:
    """On white paper, and on the light and the dark theme of the site."""
    looks = line_styles(["random", *(f"m{number}" for number in range(9))])
    for color in {look.color for look in looks.values()} - {"black"}:
        above, below = sorted([luminance(color), luminance(paper)], reverse=True)
        assert (above + 0.05) / (below + 0.05) >= 3


def test_random_is_grey_whoever_else_is_there() -> None:
    """The floor is known at a glance; order and repetition of labels change nothing."""
    assert line_styles(["random"])["random"].color == GREY
    assert line_styles(["b", "a", "random", "a"]) == line_styles(["a", "random", "b"])


# Output: the same drawing gives the same bytes in every format.

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


# Axes: Axes show all densities where they are, and enlarge only where that helps.

NOTHING = float("nan")
SERIES = st.lists(st.floats(0, 100), max_size=30).map(lambda values: pd.Series(values, dtype=float))


def test_places_are_negative_logarithms_densest_first() -> None:
    """Each density once."""
    assert places(pd.Series([0.01, 1.0, 0.1, 0.1])) == {1.0: 0.0, 0.1: 1.0, 0.01: 2.0}


@pytest.mark.parametrize(
    ("at", "count", "expected"),
    [
        ({1.0: 0.0, 0.1: 1.0}, 1, [0.0]),
        ({1.0: 0.0, 0.1: 1.0}, 3, [-0.004, 0.0, 0.004]),
        ({1.0: 0.0, 0.1: 1.0}, 31, [-0.015, 0.015]),
        ({1.0: 0.0, 0.9: 0.05, 0.1: 1.0}, 31, [-0.005, 0.005]),
        ({1.0: 0.0}, 2, [0.0, 0.0]),
        ({}, 2, [0.0, 0.0]),
    ],
    ids=["one-line", "three", "many", "close-densities", "one-density", "none"],
)
def test_shifts_stay_small(at: dict[float, float], count: int, expected: list[float]) -> None:
    """Symmetric, by the number of lines, within 1.5 % of the axis and a tenth of a gap."""
    found = dodge(at, count)
    assert len(found) == count
    ends = found if len(expected) == count else [found[0], found[-1]]
    assert ends == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("means", "dense", "expected"),
    [
        ([10.0, *[94.0] * 9, 97.0], [98.0], (93.6, 98.4)),
        ([10.0, *[94.0] * 9, 97.0], [], (93.7, 97.3)),
        ([10.0, *[90.0] * 9, 99.9], [99.9], (89.01, 100)),
        ([10.0, *[90.0] * 9], [90.0], (89.9, 90.1)),
        ([10.0, 30.0, 50.0, 70.0, 90.0], [95.0], None),
        ([95.0, *[98.0] * 9], [98.5], None),
        ([], [98.0], None),
        ([NOTHING], [], None),
        ([10.0, 10.0, 12.0, 90.0], [10.0], None),
    ],
    ids=["top", "no-dense", "limit", "equal", "spread", "close", "empty", "lost", "crowd-below"],
)
def test_what_is_enlarged(
    means: list[float], dense: list[float], expected: tuple[float, float] | None
) -> None:
    """Where most means crowd below dense; nothing where they are spread, close or at the foot."""
    found = zoom(pd.Series(means, dtype=float), pd.Series(dense, dtype=float))
    assert found == (expected and pytest.approx(expected, abs=1e-9))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(SERIES, SERIES)
def test_what_is_enlarged_holds_most_means_and_is_small(means: pd.Series, dense: pd.Series) -> None:
    """The highest value and at least 85 % of the means, in less than half of the whole range."""
    if found := zoom(means, dense):
        low, high = found
        everything = pd.concat([means, dense])
        assert low < high <= 100 and everything.max() <= high
        assert (means >= low).mean() >= 0.84
        assert high - low < (everything.max() - everything.min()) / 2

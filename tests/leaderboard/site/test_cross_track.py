"""The critical-difference diagram has ranks on a line and joins those that do not differ."""

import pytest

from paibench.leaderboard.site.cross_track import diagram


def test_positions_follow_ranks() -> None:
    """The best is at the left end of the axis, the worst at the right, all to scale."""
    drawn = diagram({"b": 2.5, "a": 1.0, "c": 3.0}, 0.8, [("b", "c")])
    left, right, _ = drawn.axis
    at = {method.name: method.x for method in drawn.methods}
    assert at == {"a": left, "b": pytest.approx(left + 0.75 * (right - left)), "c": right}
    ((start, end, _),) = drawn.bars
    assert start < at["b"] and end > at["c"]
    assert drawn.scale[0] == left
    assert drawn.scale[1] == pytest.approx(left + 0.4 * (right - left))


def test_names_do_not_overlap() -> None:
    """Each name has a separate line on its side, and the drawing has room for all names."""
    drawn = diagram({f"method {place}": 1 + place / 2 for place in range(9)}, 2.0, [])
    for anchor in ("start", "end"):
        lines = sorted(method.y for method in drawn.methods if method.anchor == anchor)
        assert all(b - a >= 18 for a, b in zip(lines, lines[1:], strict=False))
        assert lines[-1] < drawn.height


def test_the_description_replaces_the_drawing() -> None:
    """The description has all ranks and all groups."""
    drawn = diagram({"b": 2.0, "a": 1.0}, 1.5, [("a", "b")])
    assert drawn.description == (
        "Mean ranks: a 1.00; b 2.00. No significant difference between a, b."
    )

"""The critical-difference diagram puts ranks on a line and joins what is not told apart."""

import pytest

from paibench.leaderboard.site.cd_diagram import diagram


def test_places_follow_ranks() -> None:
    """The best is at the left end of the axis, the worst at the right, all to scale."""
    found = diagram({"b": 2.5, "a": 1.0, "c": 3.0}, 0.8, [("b", "c")])
    left, right, _ = found.axis
    at = {method.name: method.x for method in found.methods}
    assert at == {"a": left, "b": pytest.approx(left + 0.75 * (right - left)), "c": right}
    ((start, end, _),) = found.bars
    assert start < at["b"] and end > at["c"]
    assert found.scale[0] == left
    assert found.scale[1] == pytest.approx(left + 0.4 * (right - left))


def test_names_do_not_overlap() -> None:
    """Each name has a line of its own on its side, and the drawing has room for all."""
    found = diagram({f"method {place}": 1 + place / 2 for place in range(9)}, 2.0, [])
    for anchor in ("start", "end"):
        lines = sorted(method.y for method in found.methods if method.anchor == anchor)
        assert all(b - a >= 18 for a, b in zip(lines, lines[1:], strict=False))
        assert lines[-1] < found.height


def test_who_does_not_see_it_is_told() -> None:
    """The words have all ranks and all groups."""
    found = diagram({"b": 2.0, "a": 1.0}, 1.5, [("a", "b")])
    assert found.words == "Mean ranks: a 1.00; b 2.00. not told apart: a, b"

"""Methods look different from each other, and the same in every figure."""

from matplotlib.colors import to_rgb

from paibench.leaderboard.looks import GREY, looks


def test_methods_look_different() -> None:
    """As many as a leaderboard will have: no two share colour, marker and line."""
    found = looks([f"m{number}" for number in range(60)])
    assert len(set(found.values())) == 62


def test_the_first_nine_differ_in_colour_and_in_marker() -> None:
    """Either alone tells them apart, for those who do not see the other."""
    found = looks([f"m{number}" for number in range(9)])
    assert len({to_rgb(look.color) for look in found.values()}) == 11
    assert len({look.marker for name, look in found.items() if name.startswith("m")}) == 9


def test_random_is_grey_whoever_else_is_there() -> None:
    """The floor is known at a glance; order and repetition of labels change nothing."""
    assert looks(["random"])["random"].color == GREY
    assert looks(["b", "a", "random", "a"]) == looks(["a", "random", "b"])

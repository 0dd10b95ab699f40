"""Labels of models and methods come apart into the name and options that they were made of."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.benchmark.spec import Named
from paibench.leaderboard.frame.labels import number, split
from paibench.leaderboard.frame.rows import _shown, label

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(NAMES, st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_label_comes_apart_into_what_it_was_made_of(
    name: str, options: dict[str, object]
) -> None:
    """Whatever the values hold: commas, brackets, quotes, equals signs."""
    found = split(label(Named.model_construct(name=name, options=options)))
    assert found == (name, {key: _shown(value) for key, value in options.items()})


@pytest.mark.parametrize("text", ["", "(", "a(", "a(b)", "a(=1)", "a(b=1", "a(b='1)", "a(b=1,c=2)"])
def test_what_is_no_label_is_all_name(text: str) -> None:
    """Nothing is guessed from text that no spec makes."""
    assert split(text) == (text, {})


def test_an_option_is_read_as_a_number() -> None:
    """The default where it is not shown; words are no number, nor is what a string says."""
    assert number("resnet-20(width=0.5)", "width", 1.0) == 0.5
    assert number("resnet-20", "width", 1.0) == 1.0
    assert number("m(x='a, width=9')", "width", 1.0) == 1.0
    assert math.isnan(number("m(width=wide)", "width", 1.0))

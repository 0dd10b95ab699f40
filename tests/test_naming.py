"""What may become part of a path in a store."""

import re

import pytest

from paibench.benchmark.naming import attempt_name, check_key, check_name, is_key
from paibench.methods.registry import UserError

HOSTILE = {
    "empty": "",
    "slash": "a/b",
    "absolute": "/etc/passwd",
    "parent": "..",
    "parent inside": "a..b",
    "hidden": ".a",
    "option": "-x",
    "nul": "a\0b",
    "newline inside": "a\nb",
    "newline at the end": "a\n",
    "capital": "CON",
    "too long": "a" * 65,
    "escape": "a\x1b[31m",
    "right to left": "a\u202eb",
    "homoglyph": "m\u0430gnitude",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_refused_in_one_line(name: str) -> None:
    """No name with more than a-z 0-9 _ . - becomes part of a path, and its echo is escaped."""
    with pytest.raises(UserError) as caught:
        check_name(name, "stage")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("stage '")


@pytest.mark.parametrize("name", ["a", "0", "imp.level-3_of.10", "a" * 64])
def test_a_plain_name_passes_unchanged(name: str) -> None:
    """A name that follows the rule is given back."""
    assert check_name(name) == name


@pytest.mark.parametrize("key", ["", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 40 + "\n"])
def test_what_is_not_forty_digits_is_no_key(key: str) -> None:
    """A key is exactly 40 lower-case hexadecimal digits."""
    assert not is_key(key)
    with pytest.raises(UserError, match="40 hexadecimal digits"):
        check_key(key)


def test_an_attempt_has_a_fresh_name_that_may_be_a_folder() -> None:
    """Two attempts of one process have different names, and both follow the rule."""
    first, second = attempt_name(), attempt_name()
    assert first != second
    assert re.fullmatch(r"[a-z0-9-]+\.\d+\.[0-9a-f]{8}", check_name(first))

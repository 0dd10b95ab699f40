"""Options read from source: types, choices, defaults, and refusals that name the place."""

import math
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.methods.core.registry import Kind, UserError, find, names
from paibench.methods.core.signature import (
    ANY,
    Described,
    Interval,
    Option,
    Value,
    checked,
    describe,
)

KINDS: tuple[Kind, ...] = ("methods", "models", "datasets")
Describe = Callable[[str], Described]
_numbers = count()
AT_LEAST_1 = Interval.read("[1, inf)")

SOURCE = '''"""Odd: keeps odd weights.

Paper: Stranger, "On Odd Weights", Nowhere 2026.
"""
import no_such_module
from typing import Literal
Rank = Literal["abs", "raw"]
def odd(net, task, density, *, rank: Rank = "abs", rate: float = 1, top: int | None = None,
        flag: bool = False, mode: Literal["a", 2, True] = 2, name: str = "x"):
    """Keep the odd ones.

    Options:
        rank: how.
    """
    task.memo("stage", None)
'''


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Describe:
    """Describe the function `odd` of a module with this source."""
    monkeypatch.syspath_prepend(tmp_path)

    def describe_source(source: str) -> Described:
        module = f"strange_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(source)
        return describe(EntryPoint("odd", f"{module}:odd", "paibench.methods"))

    return describe_source


def refusal(described: Describe, source: str) -> str:
    with pytest.raises(UserError) as caught:
        described(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_everything_is_read(described: Describe) -> None:
    """Summary, paper, docstring and options come from the source, and the module never runs."""
    found = described(SOURCE)
    assert (found.name, found.summary) == ("odd", "Odd: keeps odd weights.")
    assert found.paper == 'Stranger, "On Odd Weights", Nowhere 2026.'
    assert found.doc.startswith("Keep the odd ones.")
    assert found.keeps_stages
    assert found.options == {
        "rank": Option((), ("abs", "raw"), "abs"),
        "rate": Option(("float",), (), 1.0),
        "top": Option(("int", "None"), (), None),
        "flag": Option(("bool",), (), False),
        "mode": Option((), ("a", 2, True), 2),
        "name": Option(("str",), (), "x"),
    }
    assert type(found.options["rate"].default) is float


def test_without_a_paper_the_function_speaks(described: Describe) -> None:
    """A module that cites no paper is summarized by its function's first line."""
    found = described('"""Many models."""\ndef odd():\n    """One model.\n\n    More."""\n')
    assert (found.summary, found.paper, found.options) == ("One model.", "", {})
    assert not found.keeps_stages


def test_packages_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module inside a package is described without running the package's `__init__`."""
    monkeypatch.syspath_prepend(tmp_path)
    inner = tmp_path / "outer_room" / "inner_room"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("raise SystemExit('it ran')")
    (inner / "odd.py").write_text("def odd(*, a: int = 3): ...")
    entry = EntryPoint("odd", "outer_room.inner_room.odd:odd", "paibench.methods")
    assert describe(entry).options == {"a": Option(("int",), (), 3)}
    assert "outer_room" not in sys.modules


RANGES = """
from typing import Annotated
from strange_words import Share as Part
Count = Annotated[int | None, "[1, inf)"]
def odd(*, a: Annotated[int, "[1,inf)"] = 3, b: Annotated[float, "(0, 1]"] | None = None,
        c: Count = None, d: Part = 0.5): ...
"""


def test_ranges(described: Describe, tmp_path: Path) -> None:
    """A range is read from the annotation, also by a name that another module defines."""
    (tmp_path / "strange_words.py").write_text(
        'import no_such_module\nfrom typing import Annotated\nShare = Annotated[float, "[0, 1)"]\n'
    )
    options = described(RANGES).options
    assert {name: option.describe() for name, option in options.items()} == {
        "a": "int in [1, inf)",
        "b": "float in (0, 1] or None",
        "c": "int in [1, inf) or None",
        "d": "float in [0, 1)",
    }


@given(
    st.floats(-5, 5),
    st.floats(0, 5),
    st.sampled_from("(["),
    st.sampled_from(")]"),
    st.floats(allow_infinity=True, allow_nan=True),
)
def test_an_interval(low: float, length: float, opening: str, closing: str, x: float) -> None:
    """A number lies in an interval by the comparisons that its brackets stand for."""
    high = low + length
    interval = Interval.read(f"{opening}{low!r}, {high!r}{closing}")
    for number in (x, low, high, (low + high) / 2):
        above = number > low or (number == low and opening == "[")
        below = number < high or (number == high and closing == "]")
        assert (number in interval) == (above and below)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def odd(*, a: Annotated[int, '1 or 2'] = 1): ...", "a: '1 or 2' is no interval; "),
        (
            "def odd(*, a: Annotated[int, '[2, 1]'] = 1): ...",
            r"option a: '\[2, 1\]' is no interval",
        ),
        ("def odd(*, a: Annotated[int, '[nan, 1]'] = 1): ...", "is no interval"),
        (
            "def odd(*, a: Annotated[int, '[1, 5]'] = 9): ...",
            r"takes int in \[1, 5\], not 9 as",
        ),
        ("from nowhere import N\ndef odd(*, a: N = 1): ...", "its annotation must be .*, not N"),
        ("def even(): ...", "defines no function 'odd' at its top level"),
        ("def odd(:", "its module cannot be read: "),
        ("def odd(*, a=1): ...", "odd: option a: its annotation must be .*, not none"),
        ("def odd(*, a: list[int] = 1): ...", r"option a: its annotation .*, not list\[int\]"),
        ("def odd(*, a: int): ...", "odd: option a: it has no default"),
        ("def odd(*, a: float = 1 / 3): ...", "option a: its default must be a literal, not 1 / 3"),
        ("def odd(*, a: int = 'x'): ...", "option a: it takes int, not 'x' as its default"),
    ],
    ids=["no interval", "backwards", "nan", "default out of range", "unknown name"]
    + ["absent", "syntax", "bare", "list", "required", "computed", "wrong default"],
)
def test_what_cannot_be_read(described: Describe, source: str, message: str) -> None:
    """A plugin that breaks the contract is refused in one line that names the option."""
    assert re.search(message, refusal(described, source))


@pytest.mark.parametrize("module", ["no_such_room", "paibench.no_such_room", "json.no.such"])
def test_a_module_that_is_not_there(module: str) -> None:
    """The error for an entry point without a module advises to reinstall the plugin."""
    with pytest.raises(UserError, match=f"there is no module '{module}'; reinstall the plugin"):
        describe(EntryPoint("odd", f"{module}:odd", "paibench.methods"))


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_ours_can_be_described(kind: Kind) -> None:
    """Everything registered here has a summary, and a literal default for every option."""
    for name in names(kind):
        assert describe(find(name, kind)).summary.endswith(".")


@pytest.mark.parametrize(
    ("option", "given", "taken"),
    [
        (Option(("int",), (), 0), 3, 3),
        (Option(("float",), (), 0.0), 3, 3.0),
        (Option(("float",), (), 0.0), 0.25, 0.25),
        (Option(("bool",), (), False), True, True),
        (Option(("int", "None"), (), None), None, None),
        (Option((), ("abs", 2), 2), "abs", "abs"),
        (Option((), ("abs", 2), 2), 2, 2),
    ],
    ids=["int", "whole float", "float", "bool", "none", "text choice", "number choice"],
)
def test_accepted(option: Option, given: Value, taken: Value) -> None:
    """A value of the right type is accepted; an integer becomes a float if necessary."""
    assert option.accept(given) == taken
    assert type(option.accept(given)) is type(taken)


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        (Option(("int",), (), 0), True, "takes int, not True"),
        (Option(("int",), (), 0), 1.0, "takes int, not 1.0"),
        (Option(("float",), (), 0.0), True, "takes float, not True"),
        (Option(("bool",), (), False), 1, "takes bool, not 1"),
        (Option(("int", "None"), (), None), "3", "takes int or None, not '3'"),
        (Option((), ("abs", 1), 1), True, "takes 'abs' or 1, not True"),
        (Option(("int",), (), 1, AT_LEAST_1), 0, "takes int in [1, inf), not 0"),
        (Option(("float",), (), 1.0, AT_LEAST_1), math.nan, "takes float in [1, inf), not nan"),
        (Option(("float",), (), 1.0, AT_LEAST_1), 0, "takes float in [1, inf), not 0.0"),
        (Option((), ("abs", "raw"), "raw"), "ab", "takes 'abs' or 'raw', not 'ab'"),
    ],
    ids=["bool as int", "float as int", "bool as float", "int as bool", "text", "1", "below"]
    + ["nan", "whole below", "misspelt"],
)
def test_refused(option: Option, given: Value, message: str) -> None:
    """A value of another type is refused: True is not 1, and 1.0 is not an integer."""
    with pytest.raises(ValueError) as caught:
        option.accept(given)
    assert str(caught.value) == message


TEXT, NUMBER = Option(("str",), (), ""), Option(("float",), (), 0.0)
WHOLE = Option(("int", "None"), (), None)
CHOICE = Option((), ("none", "abs", 2, True), "abs")


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        *((TEXT, text, text) for text in ("2024", "1e5", "true", "None", "nan", "", "a=b", " 7")),
        (NUMBER, "5", 5.0),
        (NUMBER, "1e-3", 0.001),
        (WHOLE, "7", 7),
        (WHOLE, "None", None),
        (WHOLE, "1e5", "1e5"),
        (WHOLE, "true", "true"),
        (Option(("int",), (), 1, Interval.read("[1, inf)")), "0", 0),
        (WHOLE, "", ""),
        (Option(("bool",), (), False), "True", True),
        (Option(("bool",), (), False), "1", "1"),
        (CHOICE, "none", "none"),
        (CHOICE, "2", 2),
        (CHOICE, "true", True),
        (CHOICE, "2.0", "2.0"),
        (Option(("str", "None"), (), None), "none", None),
        (Option(("str", "None"), (), None), "5", "5"),
        (Option(("int", "str"), (), 0), "5", 5),
        *((ANY, text, value) for text, value in {"5": 5, "1.0": 1.0, "false": False}.items()),
        *((ANY, text, value) for text, value in {"none": None, "x": "x", "1e3": 1000.0}.items()),
    ],
)
def test_a_text_is_read_as_the_declared_type(option: Option, text: str, value: Value) -> None:
    """A text option takes any text, another option what its types can be, or `accept` refuses."""
    assert option.read(text) == value
    assert type(option.read(text)) is type(value)


def test_checked_leaves_defaults_out() -> None:
    """Options at their default are left out, and the others are sorted by name."""
    options = {
        "rate": Option(("float",), (), 1.0),
        "top": Option(("int",), (), 3),
        "all": Option(("bool",), (), True),
    }
    assert checked("method odd", options, {"top": 4, "rate": 1, "all": True}) == {"top": 4}
    assert list(checked("odd", options, {"top": 4, "all": False})) == ["all", "top"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"raet": 1}, "method odd has no option 'raet'; did you mean rate?"),
        ({"x" * 500: 1}, f"method odd has no option {'x' * 80!r}; known: rate"),
        ({"rate": "much"}, "method odd: option rate takes float, not 'much'"),
    ],
    ids=["misspelt", "long", "type"],
)
def test_checked_refuses(given: dict[str, Value], message: str) -> None:
    """The error for an unknown option suggests the nearest, for a wrong value the types."""
    with pytest.raises(UserError) as caught:
        checked("method odd", {"rate": Option(("float",), (), 1.0)}, given)
    assert str(caught.value) == message

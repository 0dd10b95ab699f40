"""The options of a registered function, read from its source without importing it.

griffe reads signatures too, but importing it would add half of the start-up time of `paibench
methods` (0.08 s of 0.2 s), and the types, choices and defaults would still be evaluated here.
"""

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from paibench.methods.core.registry import Entry, LocalFile, UserError, did_you_mean
from paibench.methods.core.text import one_line

Value = bool | int | float | str | None
_DEEP = (RecursionError, MemoryError)
"""What the parser of Python raises for a source that is nested too deeply."""
_PLAIN = {"bool", "int", "float", "str", "None"}
_WORDS: Mapping[str, Value] = {"true": True, "false": False, "none": None}
_NUMBERS = {"int", "float"}
_INTERVAL = re.compile(r"([(\[])\s*(\S+)\s*,\s*(\S+)\s*([)\]])")


@dataclass(frozen=True)
class Interval:
    """The numbers between two ends, written as in mathematics: `[0, 1)` leaves out the 1."""

    text: str
    low: float
    high: float

    @classmethod
    def read(cls, text: str) -> "Interval":
        """Return the interval that a text describes. Raises ValueError if it is none."""
        try:
            opening, low, high, closing = _INTERVAL.fullmatch(text).groups()  # type: ignore[union-attr]
            interval = cls(f"{opening}{low}, {high}{closing}", float(low), float(high))
            if not interval.low <= interval.high:
                raise ValueError
        except (AttributeError, ValueError):
            raise ValueError(f"{text!r:.40} is no interval; write one such as '[0, 1)'") from None
        return interval

    def __contains__(self, number: float) -> bool:
        if not self.low <= number <= self.high:  # nor is NaN
            return False
        if number == self.low and self.text.startswith("("):
            return False
        return not (number == self.high and self.text.endswith(")"))


@dataclass(frozen=True)
class Option:
    """One keyword-only argument: the types or values it takes, its default, and its range."""

    types: tuple[str, ...]
    choices: tuple[Value, ...]
    default: Value
    interval: Interval | None = None

    def describe(self) -> str:
        """Return the accepted types and values: `int in [1, inf) or None`, `'abs' or 'raw'`."""
        where = f" in {self.interval.text}" if self.interval else ""
        types = [f"{name}{where}" if name in _NUMBERS else name for name in self.types]
        return " or ".join([*types, *map(repr, self.choices)])

    def accept(self, value: Value) -> Value:
        """Return the value in the option's type: an integer becomes a float if necessary.

        Raises ValueError if it has another type, is not among the choices or is out of range.
        """
        kind = "None" if value is None else type(value).__name__
        if kind == "int" and "int" not in self.types and "float" in self.types:
            try:
                kind, value = "float", float(value)  # type: ignore[arg-type]
            except OverflowError:
                kind = "too large"
        # 1 == True in Python, so that types are compared too
        if any(value == c and type(value) is type(c) for c in self.choices):
            return value
        if kind in self.types and (
            self.interval is None or kind not in _NUMBERS or value in self.interval  # type: ignore[operator]
        ):
            return value
        raise ValueError(f"takes {self.describe()}, not {value!r:.80}")

    def read(self, text: str) -> Value:
        """Return the value that a text on a command line stands for, in one of the option's types.

        `none`, `true`, `false` and numbers are texts if the option takes nothing but text. A text
        that fits no type is returned as it is, for `accept` to refuse.
        """
        candidates: list[Value] = [text] if text in self.choices else []
        candidates += [_WORDS[text.lower()]] if text.lower() in _WORDS else []
        # whole numbers first, because 5 and 5.0 give a run different keys
        for number in (int, float):
            with suppress(ValueError):
                candidates.append(number(text))
        for candidate in candidates:
            with suppress(ValueError):
                # a number out of range is still a number, which `accept` refuses
                return replace(self, interval=None).accept(candidate)
        return text


ANY = Option(("None", "bool", "int", "float", "str"), (), None)
"""An option whose type is not known."""


@dataclass(frozen=True)
class Described:
    """The documentation and options of a registered function."""

    name: str
    summary: str
    paper: str
    doc: str
    options: Mapping[str, Option]
    keeps_stages: bool
    """Whether its module calls `task.memo`, so that runs can share parts of their searches."""
    broken: str = ""
    """Why it cannot be used, if it cannot."""


@cache
def describe(entry: Entry) -> Described:
    """Return the first line, the paper, the docstring and the options of an entry point.

    Raises UserError if the module or the function does not exist or cannot be read, or if an
    option has no plain type or no literal default of that type.
    """
    where = f"{entry.name} ({entry.value})"
    try:
        path = source(entry)
        tree = ast.parse(path.read_bytes()) if path else None
    # find_spec raises ValueError for a module that has no spec, and the value of an entry point
    # that is not "module:function" AttributeError
    except (ImportError, OSError, SyntaxError, ValueError, AttributeError, *_DEEP) as error:
        raise UserError(f"{where}: its module cannot be read: {one_line(str(error))}") from error
    if tree is None:
        raise UserError(f"{where}: there is no module {entry.module!r}; reinstall the plugin")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return _described(entry, tree, node)
    raise UserError(f"{where}: {entry.module} defines no function {entry.attr!r} at its top level")


def source(entry: Entry) -> Path | None:
    """Return the file of an entry point's module without running the `__init__` of its packages."""
    return entry.path if isinstance(entry, LocalFile) else _file(entry.module)


def _file(module: str) -> Path | None:
    top, *rest = module.split(".")
    # find_spec of a dotted name would import the packages above it
    spec = find_spec(top)
    for end in range(len(rest)):
        folders = spec.submodule_search_locations if spec else None
        name = ".".join([top, *rest[: end + 1]])
        spec = PathFinder.find_spec(name, folders) if folders else None
    return Path(spec.origin) if spec and spec.origin else None


def _described(entry: Entry, tree: ast.Module, node: ast.FunctionDef) -> Described:
    module_doc = ast.get_docstring(tree) or ""
    doc = ast.get_docstring(node) or module_doc
    paragraphs = module_doc.split("\n\n")
    paper = next((text for text in paragraphs if text.startswith("Paper:")), "")
    # a module that cites a paper is one method; other modules define several functions
    summary = (module_doc if paper else doc).splitlines() or [""]
    options = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        try:
            options[argument.arg] = _option(_annotation(argument.annotation, tree), default)
        except ValueError as error:
            raise UserError(
                f"{entry.name}: option {argument.arg}: {one_line(str(error))}"
            ) from error
    memo = any(isinstance(n, ast.Attribute) and n.attr == "memo" for n in ast.walk(tree))
    cited = " ".join(paper.removeprefix("Paper:").split())
    return Described(entry.name, summary[0], cited, doc, options, memo)


def _option(option: Option, default: ast.expr | None) -> Option:
    """Return the option with its default."""
    if default is None:
        raise ValueError("it has no default")
    try:
        value = ast.literal_eval(default)
    except ValueError:
        raise ValueError(f"its default must be a literal, not {ast.unparse(default)}") from None
    try:
        # the default has the option's type: 1 becomes 1.0 if the option is a float
        return replace(option, default=option.accept(value))
    except ValueError as error:
        raise ValueError(f"it {error} as its default") from None


def _annotation(node: ast.expr | None, tree: ast.Module) -> Option:
    """Return the plain types, the literal choices and the range that an annotation names."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            one, other = _annotation(left, tree), _annotation(right, tree)
            interval = one.interval or other.interval
            return Option(one.types + other.types, one.choices + other.choices, None, interval)
        case ast.Name(id=name) if name in _PLAIN:
            return Option((name,), (), None)
        case ast.Name(id=name) if alias := _alias(name, tree):
            return _annotation(*alias)
        case ast.Constant(value=None):
            return Option(("None",), (), None)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=content):
            values = content.elts if isinstance(content, ast.Tuple) else [content]
            return Option((), tuple(ast.literal_eval(value) for value in values), None)
        case ast.Subscript(
            value=ast.Name(id="Annotated"),
            slice=ast.Tuple(elts=[annotated, ast.Constant(value=str(text))]),
        ):
            return replace(_annotation(annotated, tree), interval=Interval.read(text))
    annotation = "none" if node is None else ast.unparse(node)
    raise ValueError(f"its annotation must be bool, int, float, str or Literal, not {annotation}")


def _alias(name: str, tree: ast.Module) -> tuple[ast.expr, ast.Module] | None:
    """Return what a module calls by a name, such as `Stem = Literal[...]`, and where it stands.

    A name that is imported from another module is followed there.
    """
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                return value, tree
            case ast.ImportFrom(module=str(module), names=names, level=0):
                original = next((n.name for n in names if (n.asname or n.name) == name), None)
                path = _file(module) if original else None
                if original and path:
                    return _alias(original, ast.parse(path.read_bytes()))
    return None


def checked(
    what: str, options: Mapping[str, Option], values: Mapping[str, Value]
) -> dict[str, Value]:
    """Return the values in the types of their options, by name, without those at their default.

    Raises UserError for an unknown option (it suggests the nearest) or a value of a wrong type.
    """
    changed: dict[str, Value] = {}
    for name, value in sorted(values.items()):
        if name not in options:
            raise UserError(f"{what} has no option {name[:80]!r}; {did_you_mean(name, options)}")
        try:
            accepted = options[name].accept(value)
        except ValueError as error:
            raise UserError(f"{what}: option {name} {error}") from error
        default = options[name].default
        # 1, 1.0 and True are equal, but are different values of a spec
        if accepted != default or type(accepted) is not type(default):
            changed[name] = accepted
    return changed

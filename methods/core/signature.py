"""The options of a registered function, read from its source without importing it.

griffe reads signatures too, but importing it would add half of the start-up time of `paibench
methods` (0.08 s of 0.2 s), and the types, choices and defaults would still be evaluated here.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from paibench.methods.core.registry import Entry, LocalFile, UserError, did_you_mean
from paibench.methods.core.text import one_line

Value = bool | int | float | str | None
_PLAIN = {"bool", "int", "float", "str", "None"}


@dataclass(frozen=True)
class Option:
    """One keyword-only argument: the types or values it takes, and its default."""

    types: tuple[str, ...]
    choices: tuple[Value, ...]
    default: Value

    def describe(self) -> str:
        """Return the accepted types and values, such as `int or None` or `'abs' or 'raw'`."""
        return " or ".join([*self.types, *map(repr, self.choices)])

    def accept(self, value: Value) -> Value:
        """Return the value in the option's type: an integer becomes a float if necessary.

        Raises ValueError if it has another type or is not among the choices.
        """
        kind = "None" if value is None else type(value).__name__
        # 1 == True in Python, so that types are compared too
        if kind in self.types or any(value == c and type(value) is type(c) for c in self.choices):
            return value
        if kind == "int" and "float" in self.types:
            return float(value)  # type: ignore[arg-type]
        raise ValueError(f"takes {self.describe()}, not {value!r:.80}")


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
    # find_spec raises ValueError for a module that has no spec
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: its module cannot be read: {one_line(str(error))}") from error
    if tree is None:
        raise UserError(f"{where}: there is no module {entry.module!r}; reinstall the plugin")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return _described(entry, tree, node)
    raise UserError(f"{where}: {entry.module} defines no function {entry.attr!r} at its top level")


def source(entry: Entry) -> Path | None:
    """Return the file of an entry point's module without running the `__init__` of its packages."""
    if isinstance(entry, LocalFile):
        return entry.path
    top, *rest = entry.module.split(".")
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
    # annotations may name a type that the module defines, such as `Stem = Literal[...]`
    aliases = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    options = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        try:
            options[argument.arg] = _option(*_annotation(argument.annotation, aliases), default)
        except ValueError as error:
            raise UserError(
                f"{entry.name}: option {argument.arg}: {one_line(str(error))}"
            ) from error
    memo = any(isinstance(n, ast.Attribute) and n.attr == "memo" for n in ast.walk(tree))
    cited = " ".join(paper.removeprefix("Paper:").split())
    return Described(entry.name, summary[0], cited, doc, options, memo)


def _option(types: tuple[str, ...], choices: tuple[Value, ...], default: ast.expr | None) -> Option:
    if default is None:
        raise ValueError("it has no default")
    try:
        value = ast.literal_eval(default)
    except ValueError:
        raise ValueError(f"its default must be a literal, not {ast.unparse(default)}") from None
    try:
        # the default has the option's type: 1 becomes 1.0 if the option is a float
        return Option(types, choices, Option(types, choices, value).accept(value))
    except ValueError as error:
        raise ValueError(f"it {error} as its default") from None


def _annotation(
    node: ast.expr | None, aliases: Mapping[str, ast.expr]
) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    """Return the plain types and the literal choices that an annotation names."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            first, second = _annotation(left, aliases), _annotation(right, aliases)
            return first[0] + second[0], first[1] + second[1]
        case ast.Name(id=name) if name in _PLAIN:
            return (name,), ()
        case ast.Name(id=name) if name in aliases:
            return _annotation(aliases[name], aliases)
        case ast.Constant(value=None):
            return ("None",), ()
        case ast.Subscript(value=ast.Name(id="Literal"), slice=content):
            values = content.elts if isinstance(content, ast.Tuple) else [content]
            return (), tuple(ast.literal_eval(value) for value in values)
    annotation = "none" if node is None else ast.unparse(node)
    raise ValueError(f"its annotation must be bool, int, float, str or Literal, not {annotation}")


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

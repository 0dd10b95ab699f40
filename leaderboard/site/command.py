"""The command that does a run again, told from the labels of its row and checked by its key."""

import ast
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

from paibench.benchmark.spec import DEFAULTS, Spec
from paibench.leaderboard import labels
from paibench.methods.signature import Value

_FLAGS = {"method": "method", "dataset": "data", "model": "model", "recipe": "recipe"}


def command(run: Mapping[Any, Any]) -> str | None:
    """What to type for a run, all but its density and seed; None where its row does not tell.

    `run` has the columns of `columns.ASKED`. Rows whose labels do not give their key back, and
    options that no command line can say, have no command.
    """
    fields = tuple(str(run[name]) for name in ("dataset", "model", "recipe", "method_label"))
    said = _said(*fields, str(run["init"]), str(run["control"]))
    if said is None:
        return None
    plain, line = said
    try:
        spec = Spec.model_validate(
            {**plain, "density": float(run["density_asked"]), "seed": int(run["seed"])}
        )
        return line if spec.key == run["key"] else None
    except (ValueError, ArithmeticError):
        return None


@cache  # a store has thousands of runs of few labels
def named(label: str) -> dict[str, Value]:
    """A label of `frame.label` as a spec takes it."""
    name, options = labels.split(label)
    return {"name": name, **{key: _value(text) for key, text in options.items()}}


def _value(text: str) -> Value:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text  # a bare word
    return value if value is None or isinstance(value, int | float | str) else text


@cache
def _said(
    dataset: str, model: str, recipe: str, method: str, init: str, control: str
) -> tuple[dict[str, Any], str] | None:
    """The spec and the command line of all runs with these labels; None where none can be typed."""
    fields = {"method": method, "dataset": dataset, "model": model, "recipe": recipe}
    found = {field: named(label) for field, label in fields.items()}
    words = ["paibench", "run"]
    for field, plain in found.items():
        if not all(map(_can_be_typed, plain.values())):
            return None
        name = str(plain["name"])
        # The name of a function in a file is made from the file, which only its author has.
        words += [f"--{field}", "path/to/file.py:function" if name.startswith("local:") else name]
        for key, value in sorted(plain.items()):
            if key != "name":
                words += [f"--{_FLAGS[field]}-option", f"{key}={_typed(value)}"]
    others = {"init": init, "control": control}
    for field, text in others.items():
        words += [f"--{field}", text] if text != DEFAULTS[field] else []
    return {**found, **others}, shlex.join(words)


def _typed(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _can_be_typed(value: Value) -> bool:
    """Whether `paibench run` reads this value back from what would be typed."""
    if not isinstance(value, str):
        return True
    try:
        float(value)
    except ValueError:
        return value.lower() not in ("true", "false", "none")
    return False

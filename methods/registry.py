"""Methods, models, data sets and recipes by name, ours and third parties' through one door.

Each kind is a group of entry points. Names are listed without importing what they stand for.
"""

import difflib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

Kind = Literal["methods", "models", "datasets", "recipes"]

_SINGULAR = {"methods": "method", "models": "model", "datasets": "data set", "recipes": "recipe"}


class UserError(ValueError):
    """Bad input from a user; its message is one line that says what, where and what to do."""


@cache
def _entries(kind: Kind) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"paibench.{kind}"):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise UserError(
                f"{_SINGULAR[kind]} {entry.name!r} is claimed by two distributions: "
                f"{_origin(other)} and {_origin(entry)}; uninstall one of them"
            )
    return dict(sorted(found.items()))


def _origin(entry: EntryPoint) -> str:
    distribution = entry.dist.name if entry.dist else "an unknown distribution"
    return f"{distribution} ({entry.value})"


def names(kind: Kind = "methods") -> list[str]:
    """All registered names of a kind, sorted; nothing is imported."""
    return list(_entries(kind))


def find(name: str, kind: Kind = "methods") -> EntryPoint:
    """The entry point behind a name, not yet imported.

    Raises UserError with the nearest known name when there is none.
    """
    entries = _entries(kind)
    if name not in entries:
        raise UserError(f"unknown {_SINGULAR[kind]} {name[:80]!r}; {did_you_mean(name, entries)}")
    return entries[name]


def get(name: str, kind: Kind = "methods") -> Any:
    """What a name stands for, imported now: `get("snip")(net, task, 0.05)`."""
    return find(name, kind).load()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known names, or all of them, as the second half of an error message."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if known else "none are known"

"""The registry: methods, models, data sets and recipes by name.

Each kind is a group of entry points, for our own and for third parties alike. Names are listed
without importing the modules behind them.
"""

import difflib
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Literal

Kind = Literal["methods", "models", "datasets", "recipes"]

_PACKAGE = "paibench."
_LOCAL = "local:"
SINGULAR = {"methods": "method", "models": "model", "datasets": "data set", "recipes": "recipe"}


TIMM = EntryPoint("timm", f"{_PACKAGE}models.timm_adapter:accepted", "paibench.models")
"""The function that returns the options of a network of timm, whose names are not registered."""


_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,63}")


class UserError(ValueError):
    """Bad input from a user; the message is one line that says what is wrong and what to do."""


@dataclass(frozen=True)
class LocalFile:
    """A function in a file that is not installed; it takes the place of an entry point."""

    name: str
    path: Path
    attr: str
    dist: None = None

    @property
    def module(self) -> str:
        """The name of the module that the file is loaded as."""
        return f"paibench_local_{self.name.rpartition('.')[2]}"

    @property
    def value(self) -> str:
        """The file and the function, as messages show them."""
        return f"{self.path.name}:{self.attr}"

    def load(self) -> Any:
        """Return the function; the first call runs the file."""
        module = sys.modules.get(self.module)
        if module is None:
            spec = spec_from_file_location(self.module, self.path)
            # a file whose name ends in .py always has a loader
            assert spec is not None and spec.loader is not None
            # registered before it runs, because dataclasses look up their module there
            module = sys.modules[self.module] = module_from_spec(spec)
            spec.loader.exec_module(module)
        return getattr(module, self.attr)


Entry = EntryPoint | LocalFile

_files: dict[str, LocalFile] = {}


def use_file(text: str) -> str:
    """Register a function of a file, `path/to/file.py:function`, as a method; return its name.

    The name contains the first digits of the file's sha256, so that an edited file is another
    method. Nothing is run. Raises UserError if the file cannot be read.
    """
    path, _, attr = text.rpartition(":")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{text[:200]}: the file cannot be read: {error.strerror}") from error
    if not attr.isidentifier() or len(attr) > 40:
        raise UserError(f"{text[:200]}: append the name of the function, as in file.py:function")
    name = f"{_LOCAL}{attr}.{hashlib.sha256(data).hexdigest()[:12]}"
    # absolute, because the working directory may change before the file is loaded
    _files[name] = LocalFile(name, Path(path).resolve(), attr)
    return name


def local_file(name: str) -> str | None:
    """Return the file and the function behind a name, with the full path; None if installed."""
    file = _files.get(name)
    return f"{file.path}:{file.attr}" if file else None


def is_file(text: str) -> bool:
    """Return whether a text names a function in a file, and not a registered method."""
    return ".py:" in text


def is_name(text: str) -> bool:
    """Return whether a text can be the name of something registered."""
    return bool(_NAME.fullmatch(text)) and ".." not in text


@cache
def _entries(kind: Kind) -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a kind by name: several if distributions claim the same name."""
    by_name: dict[str, dict[str, EntryPoint]] = {}
    for entry in _readable_entries(f"paibench.{kind}"):
        # a distribution that is on the path twice claims its names once
        by_name.setdefault(entry.name, {}).setdefault(_claimant(entry), entry)
    return {name: tuple(claims.values()) for name, claims in sorted(by_name.items())}


def _readable_entries(group: str) -> Iterator[EntryPoint]:
    try:
        yield from entry_points(group=group)
    except Exception:  # one file that cannot be read must not hide all others
        for dist in distributions():
            with suppress(Exception):
                yield from dist.entry_points.select(group=group)


def _claimant(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"


def names(kind: Kind = "methods") -> list[str]:
    """Return all registered names of a kind, sorted; nothing is imported."""
    return list(_entries(kind))


def find(name: str, kind: Kind = "methods") -> Entry:
    """Return the entry point of a name, not yet imported.

    Raises UserError that suggests the nearest name if the name is unknown, and one that names
    both distributions if two claim it.
    """
    if kind == "methods" and name in _files:
        return _files[name]
    entries = _entries(kind)
    if kind == "methods" and name.startswith(_LOCAL):
        # the digest in the name identifies the code, but the code is only in the user's file
        function = name.removeprefix(_LOCAL).rpartition(".")[0]
        raise UserError(
            f"method {name[:80]!r} is a function in a file that has changed or is not known here;"
            f" give the file as path/to/file.py:{function[:40]}"
        )
    if name not in entries:
        raise UserError(f"unknown {SINGULAR[kind]} {name[:80]!r}; {did_you_mean(name, entries)}")
    first, *others = entries[name]
    if others:
        both = " and ".join(f"{_claimant(each)} ({each.value})" for each in (first, others[0]))
        raise UserError(
            f"{SINGULAR[kind]} {name!r} is claimed by two distributions: {both}; uninstall one of "
            "them"
        )
    return first


def origin(entry: Entry) -> str:
    """Return the distribution and the object behind a name, for a message."""
    owner = _claimant(entry) if isinstance(entry, EntryPoint) else "local file"
    return f"{owner}: {entry.value}"


def get(name: str, kind: Kind = "methods") -> Any:
    """Import and return the function of a name: `get("snip")(net, task, 0.05)`."""
    return find(name, kind).load()


def is_own(name: str, kind: Kind = "methods") -> bool:
    """Return whether a name belongs to the suite itself, and not to a third party."""
    entry = find(name, kind)
    return bool(entry.dist and entry.dist.name == "paibench" and entry.value.startswith(_PACKAGE))


def did_you_mean(name: str, choices: Iterable[str], otherwise: str | None = None) -> str:
    """Return the second half of an error message: the nearest known names.

    If no known name is near: `otherwise`, by default the list of all known names.
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if otherwise is not None:
        return otherwise
    return f"known: {', '.join(choices)}" if choices else "none are known"

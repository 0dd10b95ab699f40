"""What a page says of a method: its source's own words, and where its runs had it from."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from paibench.leaderboard.frame.export import cite_runs
from paibench.methods.core.registry import UserError, find
from paibench.methods.core.signature import describe


class About(NamedTuple):
    """A method in words; `known` is False where it is not installed here."""

    name: str
    known: bool
    summary: str
    paper: str
    text: tuple[str, ...]
    """The docstring, a paragraph each."""
    options: tuple[tuple[str, str, str], ...]
    """Name, default, and what it takes."""
    bibtex: tuple[str, ...]
    """A line each."""
    plugins: tuple[str, ...]
    """The distributions that runs had it from, with versions and digests."""


def about(name: str, runs: pd.DataFrame) -> About:
    """A method, read from its source without importing it, and from the rows of its runs."""
    plugins = tuple(sorted(set(_plugins(runs))))
    bibtex = tuple(cite_runs(runs).splitlines())
    try:
        found = describe(find(name))
    except UserError:
        return About(name, False, "", "", (), (), bibtex, plugins)
    text = tuple(" ".join(part.split()) for part in found.doc.split("\n\n"))
    options = tuple(
        (option, repr(each.default), each.describe()) for option, each in found.options.items()
    )
    return About(name, True, found.summary, found.paper, text, options, bibtex, plugins)


def _plugins(runs: pd.DataFrame) -> Iterable[str]:
    names = ["plugin", "plugin_version", "plugin_origin", "plugin_sha256"]
    known = runs.loc[runs["plugin"].notna(), names].drop_duplicates().astype("object")
    for plugin, version, origin, digest in known.where(known.notna(), None).values.tolist():
        said = f"{plugin} {version or 'of unknown version'}"
        said += f" from {origin}" if origin else ""
        yield said + (f", sha256 {digest}" if digest else "")

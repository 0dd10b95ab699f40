"""The methods shown, as BibTeX: papers of our own ones, distribution and version of all others."""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

import pandas as pd

from paibench.leaderboard import latex
from paibench.leaderboard.papers import OF_METHOD, PAPERS, Paper


class Plugin(NamedTuple):
    """The distribution that brought a method; the version is empty where it is not known."""

    distribution: str
    version: str = ""


def cite(names: Iterable[str], plugins: Mapping[str, Plugin] | None = None) -> str:
    """BibTeX of methods by their names, without options: an entry per paper, each once, by key.

    A method that is not the suite's own is a `@misc` with its distribution and version, from
    `plugins`. What has nothing to cite is a comment. The same names give the same text.
    """
    brought = plugins or {}
    entries: dict[str, str] = {}
    comments = []
    for name in sorted(set(names)):
        if name in OF_METHOD and name not in brought:
            entries |= {key: _paper(key, PAPERS[key]) for key in OF_METHOD[name]}
            comments += [] if OF_METHOD[name] else [f"% {name}: nothing to cite"]
        else:
            key = _key(name)
            entries[key] = _misc(key, name, brought.get(name))
    return "\n\n".join([*comments, *(entries[key] for key in sorted(entries))]) + "\n"


def cite_runs(runs: pd.DataFrame) -> str:
    """BibTeX of the methods of a frame of runs.

    Of a plugin that occurs in several versions the entry has all of them.
    """
    strange = runs[runs["plugin"].notna() & (runs["plugin"] != "paibench")]
    plugins = {}
    for name, group in strange.groupby("method"):
        distributions = sorted(group["plugin"].unique())
        versions = sorted(group["plugin_version"].dropna().unique())
        plugins[str(name)] = Plugin(", ".join(distributions), ", ".join(versions))
    return cite(runs["method"], plugins)


def _paper(key: str, paper: Paper) -> str:
    kind = "inproceedings"
    return _entry(
        kind,
        key,
        author=" and ".join(paper.authors),
        title=f"{{{paper.title}}}",
        booktitle=paper.venue,
        year=str(paper.year),
        eprint=paper.arxiv,
        archiveprefix="arXiv",
    )


def _misc(key: str, name: str, plugin: Plugin | None) -> str:
    """An entry for what has no paper that we know of; its text is hostile until escaped."""
    source = latex.text(plugin.distribution) if plugin else "a distribution that is not known"
    version = f", version {latex.text(plugin.version)}" if plugin and plugin.version else ""
    title = f"{{{latex.text(name)}}}: a method for paibench"
    return _entry("misc", key, title=title, howpublished=f"Plugin {source}{version}")


def _entry(kind: str, key: str, **fields: str) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _key(name: str) -> str:
    """A key that BibTeX takes; with a digest where the name had to be bent for it."""
    bent = re.sub(r"[^A-Za-z0-9_.:-]+", "-", name)[:40]
    digest = "" if bent == name else f"-{sha256(name.encode()).hexdigest()[:8]}"
    return f"paibench-{bent}{digest}"

"""The methods of a leaderboard as BibTeX: papers of our own, plugin and version of all others."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from paibench.leaderboard.frame.known import KNOWN, Known, known
from paibench.leaderboard.frame.latex import text

_VENUES = {
    "International Conference on Learning Representations": "ICLR",
    "International Conference on Machine Learning": "ICML",
    "Advances in Neural Information Processing Systems": "NeurIPS",
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition": "CVPR",
}


class Plugin(NamedTuple):
    """The distribution of a method; the version is empty if it is not known."""

    distribution: str
    version: str = ""


def cite(names: Iterable[str], plugins: Mapping[str, Plugin] | None = None) -> str:
    """Return the BibTeX entries of methods, given by their names, in order of key.

    A method of `plugins` gets an entry `@misc` with its distribution and version. A method without
    a paper gets a comment.
    """
    plugins = plugins or {}
    entries: dict[str, str] = {}
    comments = []
    for name in sorted(set(names)):
        # A plugin may use a name of ours, but our papers do not describe its method.
        if name in KNOWN and name not in plugins:
            entries |= {key: papers()[key] for key in KNOWN[name].papers}
            comments += [] if KNOWN[name].papers else [f"% {name}: nothing to cite"]
        else:
            key = _key(name)
            entries[key] = _misc(key, name, plugins.get(name))
    return "\n\n".join([*comments, *(entries[key] for key in sorted(entries))]) + "\n"


def keys_of(runs: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the BibTeX keys to cite for the methods of a frame of runs, by their labels.

    They are those of `cite_runs`; a method without a paper has none.
    """
    return {
        label: (_key(method),) if found is None else found.papers
        for label, (method, found) in known_of(runs).items()
    }


def known_of(runs: pd.DataFrame) -> dict[str, tuple[str, Known | None]]:
    """Return the name of each method of a frame of runs and what is known of it, by its label."""
    names = runs[["method_label", "method", "plugin"]].drop_duplicates("method_label")
    return {
        str(label): (str(method), known(method, label, None if pd.isna(plugin) else plugin))
        for label, method, plugin in names.itertuples(index=False)
    }


def published(found: Known) -> str:
    """Return the name of a method for people, with venue and year of its first paper."""
    if not found.papers:
        return found.title
    fields = dict(re.findall(r"(\w+) = \{+(.*?)\}+,", papers()[found.papers[0]]))
    venue = _VENUES.get(fields.get("booktitle", ""), fields.get("archiveprefix", ""))
    return f"{found.title}, {venue} {fields['year']}".replace(",  ", ", ")


def cite_runs(runs: pd.DataFrame) -> str:
    """Return the BibTeX entries of the methods of a frame of runs, with all versions of plugins."""
    third_party = runs[runs["plugin"].notna() & (runs["plugin"] != "paibench")]
    plugins = {}
    for name, group in third_party.groupby("method"):
        distributions = sorted(group["plugin"].unique())
        versions = sorted(group["plugin_version"].dropna().unique())
        plugins[str(name)] = Plugin(", ".join(distributions), ", ".join(versions))
    return cite(runs["method"], plugins)


@cache
def papers() -> dict[str, str]:
    """Return the entries of references.bib by their keys."""
    bibtex = (files("paibench.leaderboard.frame") / "references.bib").read_text("utf-8")
    entries = bibtex.strip().split("\n\n")
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in entries}


def _misc(key: str, name: str, plugin: Plugin | None) -> str:
    """Return the entry of a method without a known paper; its names come from records."""
    source = text(plugin.distribution) if plugin else "an unknown distribution"
    version = f", version {text(plugin.version)}" if plugin and plugin.version else ""
    # The inner braces keep BibTeX from changing the case of the name.
    title = f"{{{text(name)}}}: a method for paibench"
    lines = [f"  title = {{{title}}},", f"  howpublished = {{Plugin {source}{version}}},"]
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def _key(name: str) -> str:
    """Return a key that BibTeX accepts, with a digest if characters had to be replaced."""
    safe = re.sub(r"[^A-Za-z0-9_.:-]+", "-", name)[:40]
    digest = "" if safe == name else f"-{sha256(name.encode()).hexdigest()[:8]}"
    return f"paibench-{safe}{digest}"

"""The methods of a leaderboard as BibTeX: papers of our own, plugin and version of all others."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from paibench.leaderboard.frame.latex import text

# The papers of our methods, by their keys in references.bib. Keys never change: people cite them.
OF_METHOD: dict[str, tuple[str, ...]] = {
    "dense": (),
    "random": ("evci2020rigging",),
    "magnitude": ("han2015learning",),
    "snip": ("lee2019snip",),
    "grasp": ("wang2020picking",),
    "synflow": ("tanaka2020pruning",),
    "edge_popup": ("ramanujan2020hidden",),
    "zhou": ("zhou2019deconstructing",),
    "imp": ("frankle2019lottery", "frankle2020linear", "renda2020comparing"),
    "gem_miner": ("sreenivasan2022rare",),
    "force": ("dejorge2021progressive",),
    "prospr": ("alizadeh2022prospect",),
    "ntk_sap": ("wang2023ntksap",),
    "px": ("iurada2024finding",),
    "dpai": ("xiang2025dpai",),
    "phew": ("patil2021phew",),
    "early_bird": ("you2020drawing",),
    "cts": ("arora2025concrete",),
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
        if name in OF_METHOD and name not in plugins:
            entries |= {key: papers()[key] for key in OF_METHOD[name]}
            comments += [] if OF_METHOD[name] else [f"% {name}: nothing to cite"]
        else:
            key = _key(name)
            entries[key] = _misc(key, name, plugins.get(name))
    return "\n\n".join([*comments, *(entries[key] for key in sorted(entries))]) + "\n"


def keys_of(runs: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the BibTeX keys to cite for the methods of a frame of runs, by their labels.

    They are those of `cite_runs`; a method without a paper has none.
    """
    names = runs[["method_label", "method", "plugin"]].drop_duplicates("method_label")
    return {
        str(label): OF_METHOD[method]
        if method in OF_METHOD and (pd.isna(plugin) or plugin == "paibench")
        else (_key(str(method)),)
        for label, method, plugin in names.itertuples(index=False)
    }


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

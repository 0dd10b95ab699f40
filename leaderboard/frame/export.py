"""The frame of runs as Parquet, each column with what it means beside it."""

import io
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
from pyarrow import parquet as pq

from paibench.leaderboard import format
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.tables import Table, legend, text_rows

_TYPES = {
    "str": pa.string(),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "Int64": pa.int64(),
    "boolean": pa.bool_(),
}
_LISTS = {
    "layer_names": pa.list_(pa.string()),
    "layer_sizes": pa.list_(pa.int64()),
    "layer_kept": pa.list_(pa.int64()),
    "collapsed": pa.list_(pa.string()),
}


def schema() -> pa.Schema:
    """Name, type and meaning of each column; the meaning is the field's `description`."""
    return pa.schema(
        [
            pa.field(
                name,
                _LISTS.get(name) or _TYPES[column.dtype],
                metadata={"description": column.meaning},
            )
            for name, column in COLUMNS.items()
        ]
    )


def parquet(runs: pd.DataFrame) -> bytes:
    """The runs, in order of key, compressed; the same runs give the same bytes.

    As long as pyarrow is of one version: its name stands in every file.
    """
    ordered = runs.sort_values("key", kind="stable")[list(COLUMNS)]
    known = schema()
    columns = [
        pa.Array.from_pandas(_plain(ordered[field.name]), type=field.type) for field in known
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=known), buffer, compression="zstd")
    return buffer.getvalue()


def _plain(column: pd.Series) -> pd.Series:
    """Missing lists are None, as pyarrow wants it; everything else as it is."""
    if column.dtype != object:
        return column
    return column.map(lambda value: value if isinstance(value, list) else None)


# spreadsheet: Any view as CSV: a table of numbers and words that no spreadsheet takes for formulas.


def csv(view: pd.DataFrame) -> str:
    """A frame as CSV at full precision, without its index; lists are joined by semicolons."""
    safe = view.copy()
    for name in view.select_dtypes(["str", "object"]):
        safe[name] = view[name].map(_cell)
    safe.columns = pd.Index([format.spreadsheet(str(name)) for name in view.columns])
    return safe.to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    if isinstance(value, list | tuple):
        return _text("; ".join(map(str, value)))
    return _text(value) if isinstance(value, str) else value


_text = lru_cache(maxsize=65_536)(format.spreadsheet)  # most texts of a store occur in many runs


# latex: A table as LaTeX with booktabs; nothing in it is a command.

_MARKS = {
    **{mark: f"\\{mark}" for mark in "&%$#_"},
    "{": r"\textbraceleft{}",  # BibTeX counts an escaped brace like any other
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",  # the straight one is not in every encoding
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after the end of a row it would be an argument
    "*": "{*}",  # and this a star
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "…": r"\dots{}",
}
_JOINT = "\0"  # no plain text has it: a hyphen that the next one would join to a dash
_MARKS[_JOINT] = "-{}"
_LETTERS = {chr(code) for code in range(0xC0, 0x100)} - set("ÐÞðþ×÷")


def text(words: str, limit: int = 120) -> str:
    """Plain text as LaTeX; what its usual fonts lack becomes a question mark."""
    shown = re.sub("-(?=-)", _JOINT, format.plain(words, limit))
    return "".join(map(_mark, shown))


def latex(table: Table) -> str:
    """The table as a float: title as caption, notes below; no label, since that is the paper's."""
    head, *rows = text_rows(table)
    columns = "l" + "r" * (len(head) - 1)
    notes = [rf"\par {text(note, 400)}" for note in legend(table)]
    if notes:
        notes = [r"\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{text(table.title, 400)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(head),
            r"\midrule",
            *map(_row, rows),
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _row(cells: list[str]) -> str:
    return " & ".join(map(text, cells)) + r" \\"


def _mark(mark: str) -> str:
    return _MARKS.get(mark) or (mark if mark.isascii() or mark in _LETTERS else "?")


# papers: The papers behind the suite's own methods, as data for a bibliography.


class Paper(NamedTuple):
    """One entry of a bibliography. `arxiv` is its number there."""

    authors: tuple[str, ...]
    title: str
    venue: str
    year: int
    arxiv: str


_ICLR = "International Conference on Learning Representations"
_ICML = "International Conference on Machine Learning"
_NEURIPS = "Advances in Neural Information Processing Systems"
_CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition"

# By key, which never changes: a paper that cites it must find it again.
PAPERS = {
    "han2015learning": Paper(
        ("Han, Song", "Pool, Jeff", "Tran, John", "Dally, William J."),
        "Learning both Weights and Connections for Efficient Neural Networks",
        _NEURIPS,
        2015,
        "1506.02626",
    ),
    "lee2019snip": Paper(
        ("Lee, Namhoon", "Ajanthan, Thalaiyasingam", "Torr, Philip H. S."),
        "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
        _ICLR,
        2019,
        "1810.02340",
    ),
    "frankle2019lottery": Paper(
        ("Frankle, Jonathan", "Carbin, Michael"),
        "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
        _ICLR,
        2019,
        "1803.03635",
    ),
    "zhou2019deconstructing": Paper(
        ("Zhou, Hattie", "Lan, Janice", "Liu, Rosanne", "Yosinski, Jason"),
        "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask",
        _NEURIPS,
        2019,
        "1905.01067",
    ),
    "wang2020picking": Paper(
        ("Wang, Chaoqi", "Zhang, Guodong", "Grosse, Roger"),
        "Picking Winning Tickets Before Training by Preserving Gradient Flow",
        _ICLR,
        2020,
        "2002.07376",
    ),
    "tanaka2020pruning": Paper(
        ("Tanaka, Hidenori", "Kunin, Daniel", "Yamins, Daniel L. K.", "Ganguli, Surya"),
        "Pruning neural networks without any data by iteratively conserving synaptic flow",
        _NEURIPS,
        2020,
        "2006.05467",
    ),
    "ramanujan2020hidden": Paper(
        (
            *("Ramanujan, Vivek", "Wortsman, Mitchell", "Kembhavi, Aniruddha"),
            *("Farhadi, Ali", "Rastegari, Mohammad"),
        ),
        "What's Hidden in a Randomly Weighted Neural Network?",
        _CVPR,
        2020,
        "1911.13299",
    ),
    "evci2020rigging": Paper(
        (
            *("Evci, Utku", "Gale, Trevor", "Menick, Jacob"),
            *("Castro, Pablo Samuel", "Elsen, Erich"),
        ),
        "Rigging the Lottery: Making All Tickets Winners",
        _ICML,
        2020,
        "1911.11134",
    ),
    "frankle2020linear": Paper(
        (
            *("Frankle, Jonathan", "Dziugaite, Gintare Karolina"),
            *("Roy, Daniel M.", "Carbin, Michael"),
        ),
        "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
        _ICML,
        2020,
        "1912.05671",
    ),
    "renda2020comparing": Paper(
        ("Renda, Alex", "Frankle, Jonathan", "Carbin, Michael"),
        "Comparing Rewinding and Fine-tuning in Neural Network Pruning",
        _ICLR,
        2020,
        "2003.02389",
    ),
    "sreenivasan2022rare": Paper(
        (
            *("Sreenivasan, Kartik", "Sohn, Jy-yong", "Yang, Liu", "Grinde, Matthew"),
            *("Nagle, Alliot", "Wang, Hongyi", "Xing, Eric", "Lee, Kangwook"),
            "Papailiopoulos, Dimitris",
        ),
        "Rare Gems: Finding Lottery Tickets at Initialization",
        _NEURIPS,
        2022,
        "2202.12002",
    ),
}

# The papers of each method of the suite, by their keys; the reference itself has none.
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
}


# citations: The methods shown, as BibTeX: papers of our own ones, distribution and version of
# all others.


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
    source = text(plugin.distribution) if plugin else "a distribution that is not known"
    version = f", version {text(plugin.version)}" if plugin and plugin.version else ""
    title = f"{{{text(name)}}}: a method for paibench"
    return _entry("misc", key, title=title, howpublished=f"Plugin {source}{version}")


def _entry(kind: str, key: str, **fields: str) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _key(name: str) -> str:
    """A key that BibTeX takes; with a digest where the name had to be bent for it."""
    bent = re.sub(r"[^A-Za-z0-9_.:-]+", "-", name)[:40]
    digest = "" if bent == name else f"-{sha256(name.encode()).hexdigest()[:8]}"
    return f"paibench-{bent}{digest}"

"""The content of the page of a method: its description, and each of its cells with its runs."""

from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import NamedTuple

import pandas as pd

from paibench.leaderboard.board import TrackBoard
from paibench.leaderboard.format import GAP, LONGEST, clean, number, row_name, sparsity_percent
from paibench.leaderboard.frame.citations import cite_runs
from paibench.leaderboard.site.tables import cost, difference
from paibench.leaderboard.stats.summary import CELL, Track, tracks
from paibench.leaderboard.tables import Cell, Column, SummaryRow, accuracy
from paibench.methods.core.registry import UserError, find
from paibench.methods.core.signature import describe

_PAGE_BYTES = 2_600_000  # the tables of a page, so that the page stays below 3 MB
_LINE_BYTES, _LINK_BYTES = 500, 46  # estimates for a row, and for the link to a run
_KEY_DIGITS = 12  # enough to tell some hundred thousand runs apart

RUN_COLUMNS = (
    Column("sparsity", "sparsity"),
    Column("accuracy", "accuracy, %", spread=True),
    Column("differences", "difference from random, points", spread=True),
    Column("untrained", "accuracy before training, %", spread=True),
    Column("native", "accuracy as a supermask, %", spread=True),
    Column("effective", "effective density"),
    Column("epochs", "search, epochs"),
    Column("seconds", "search, s"),
    Column("runs", "runs, by seed"),
)


class About(NamedTuple):
    """The description of a method; `installed` is False if the method is not installed here."""

    name: str
    installed: bool
    summary: str
    paper: str
    paragraphs: tuple[tuple[str, ...], ...]
    """The docstring, in parts that are short enough for a page to show each as a whole."""
    options: tuple[tuple[str, str, str], ...]
    """Name, default, and the values that it takes."""
    bibtex: tuple[str, ...]
    """The lines of its entries."""
    plugins: tuple[str, ...]
    """The distributions that provided it to the runs, with versions and digests."""


class RunLink(NamedTuple):
    """A link to a run: the beginning of its key, its seed, and its status unless it is done."""

    key: str
    seed: int
    status: str


class CellRow(NamedTuple):
    """A row for one cell of the leaderboard: its name, its values and its runs."""

    name: str
    cells: tuple[Cell, ...]
    runs: tuple[RunLink, ...]


class TrackPart(NamedTuple):
    """All cells of a method in one track."""

    track: Track
    slug: str
    rows: tuple[CellRow, ...]


def about(name: str, runs: pd.DataFrame) -> About:
    """Describe a method from its source, without importing it, and from its runs."""
    plugins = tuple(sorted(set(_plugins(runs))))
    bibtex = tuple(cite_runs(runs).splitlines())
    try:
        described = describe(find(name))
    # Records may come from a method that this machine does not have.
    except UserError:
        return About(name, False, "", "", (), (), bibtex, plugins)
    paragraphs = tuple(tuple(wrap(part, LONGEST)) for part in described.doc.split("\n\n"))
    options = tuple(
        (option, repr(each.default), each.describe()) for option, each in described.options.items()
    )
    summary, paper = described.summary, described.paper
    return About(name, True, summary, paper, paragraphs, options, bibtex, plugins)


def track_parts(
    cells: pd.DataFrame, runs: pd.DataFrame, board_tracks: Mapping[Track, TrackBoard]
) -> tuple[list[TrackPart], int]:
    """Return the cells of one method by track, and the number of cells that do not fit."""
    # A method with many options has thousands of cells; the page must stay usable on a phone.
    links = _run_links(runs)
    room, dropped, parts = _PAGE_BYTES, 0, []
    order = ["method_label", "is_control", "control", "density_asked"]
    for track, part in tracks(cells):
        rows = []
        sortable = part.assign(is_control=part["control"] != "none")
        for cell in sortable.sort_values(order, ascending=[True, True, True, False]).to_dict(
            "records"
        ):
            own = links.get(tuple(cell[name] for name in CELL), [])
            room -= _LINE_BYTES + _LINK_BYTES * len(own)
            if room < 0:
                dropped += 1
                continue
            name = row_name(cell["method_label"], cell["control"])
            rows.append(CellRow(clean(name), tuple(_values(cell)), tuple(own)))
        parts.append(TrackPart(track, board_tracks[track].slug, tuple(rows)))
    return parts, dropped


def _plugins(runs: pd.DataFrame) -> Iterable[str]:
    names = ["plugin", "plugin_version", "plugin_origin", "plugin_sha256"]
    plugins = runs.loc[runs["plugin"].notna(), names].drop_duplicates().astype("object")
    for plugin, version, origin, digest in plugins.where(plugins.notna(), None).values.tolist():
        text = f"{plugin} {version or 'of unknown version'}"
        text += f" from {origin}" if origin else ""
        yield text + (f", sha256 {digest}" if digest else "")


def _run_links(runs: pd.DataFrame) -> dict[tuple[object, ...], list[RunLink]]:
    links: dict[tuple[object, ...], list[RunLink]] = {}
    columns = [runs[name].tolist() for name in (*CELL, "key", "seed", "status")]
    for *cell, key, seed, status in zip(*columns, strict=True):
        label = "" if status == "done" else str(status)
        links.setdefault(tuple(cell), []).append(RunLink(str(key)[:_KEY_DIGITS], int(seed), label))
    return {
        cell: sorted(own, key=lambda link: (link.seed, link.key)) for cell, own in links.items()
    }


def _values(cell: SummaryRow) -> Iterable[Cell]:
    density, effective = float(cell["density_asked"]), number(cell["density_effective"])
    yield Cell(sparsity_percent(density), value=round(100 * (1 - density), 9))
    yield accuracy(cell)
    yield difference(cell)
    for measure in ("accuracy_untrained", "native_accuracy"):
        yield accuracy(cell, measure) if cell[f"{measure}_n"] else Cell(GAP)
    yield Cell(GAP) if effective is None else Cell(f"{effective:.4g}", value=effective)
    yield cost(cell, "search_epochs")
    yield cost(cell, "search_seconds")

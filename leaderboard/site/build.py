"""The site as files: the same records give the same bytes, and every file is replaced whole."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from paibench.leaderboard.board import Board
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.export import csv, parquet
from paibench.leaderboard.site import chart, pages
from paibench.leaderboard.site import runs as run_files
from paibench.leaderboard.site.method_info import About, about
from paibench.leaderboard.site.output import write
from paibench.leaderboard.site.pages import ASSETS, asset, environment, page
from paibench.leaderboard.site.tables import boards, frames
from paibench.leaderboard.stats.summary import Track
from paibench.methods.core.registry import UserError

Figures = Mapping[Track, Mapping[str, bytes]]
_MARK = "self-reported, checked or verified: whether maintainers ran it again, and how"


@dataclass(frozen=True)
class SiteBuilt:
    """The files that were written, how large they are, and what is not in them and why."""

    paths: tuple[Path, ...]
    bytes: dict[str, int]
    """The size of each file by its path within the site."""
    left_out: tuple[str, ...]


def build_site(board: Board, out: Path, *, figures: Figures | None = None) -> SiteBuilt:
    """Write the site of a board into the folder `out`, and remove what an earlier build left.

    `figures` has the files of the figures of each track by name ("accuracy-SLUG.svg"). Raises
    UserError if the board has no record to show, or if `out` cannot be written.
    """
    counts = board.counts
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        raise UserError("there are no records to show; run a sweep first")
    site = pages.Site(board, environment(), figures or {}, list(map(clean, board.left_out)))
    sizes = write(out, _files(site))
    return SiteBuilt(tuple(out / name for name in sizes), sizes, tuple(site.left_out))


def _files(site: pages.Site) -> Iterator[tuple[str, bytes]]:
    yield from ((f"assets/{name}", asset(name)) for name in ASSETS)
    yield "assets/vega.js", chart.runtime()
    prefixes: list[str] = []
    yield from _runs(site, prefixes)
    yield "data/cells.csv", csv(site.board.cells).encode()
    ranked = []
    for track, track_board in site.board.tracks.items():
        shown = frames(track_board, site.board.methods, site.board.rows)
        found = boards(shown)
        ranked.append(pages.on_index(shown, found))
        yield from pages.written(site.figures.get(track, {}))
        yield f"track/{shown.slug}.html", pages.track(site, shown, found)
    known: list[About] = []
    for method, own in site.board.frame.runs.groupby("method"):
        known.append(about(str(method), own))
        yield (
            f"method/{site.board.methods[known[-1].name]}.html",
            pages.method(site, known[-1], own),
        )
    meanings = {name: column.meaning for name, column in COLUMNS.items()} | {"mark": _MARK}
    run = page(site.templates, "run.html", root="", prefixes=prefixes, meanings=meanings)
    yield "run.html", run
    yield "index.html", pages.index(site, ranked, known)


def _runs(site: pages.Site, prefixes: list[str]) -> Iterator[tuple[str, bytes]]:
    """Every run: masks, what the page of a run reads, and all of them as one file."""
    runs, stores, offered = site.board.frame.runs, site.board.stores, {}
    for key, data in run_files.masks(runs, stores, site.left_out):
        offered[key] = sha256(data).hexdigest()
        yield f"masks/{key}.safetensors", data
    for name, data in run_files.shards(runs, stores, offered):
        prefixes.append(name.removesuffix(".js"))
        yield f"data/runs/{name}", data
    yield "data/runs.parquet", parquet(runs)

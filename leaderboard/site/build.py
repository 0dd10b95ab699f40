"""Write the site as files. The same records give the same bytes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from paibench.leaderboard.board import Board
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.export import parquet
from paibench.leaderboard.site import chart, pages
from paibench.leaderboard.site import runs as run_files
from paibench.leaderboard.site.method_page import about
from paibench.leaderboard.site.output import write
from paibench.leaderboard.stats.summary import Track
from paibench.methods.core.registry import UserError


@dataclass(frozen=True)
class SiteBuilt:
    """The files of a site with their sizes, and what is missing from it."""

    paths: tuple[Path, ...]
    bytes: dict[str, int]
    """The size of each file by its path within the site."""
    left_out: tuple[str, ...]
    """A line for each missing result, with the reason."""


def build_site(
    board: Board, out: Path, *, figures: Callable[[Track], Mapping[str, bytes]] = lambda _: {}
) -> SiteBuilt:
    """Write the site of a board into the folder `out`, and remove files of an earlier build.

    `figures` returns the files of the figures of a track by name ("accuracy-SLUG.svg"). Raises
    UserError if the board has no record to show, or if `out` cannot be written.
    """
    counts = board.counts
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        raise UserError("there are no records to show; run a sweep first")
    # The lines quote names and reasons from records, which anybody may have written.
    site = pages.Site(board, figures, list(map(clean, board.left_out)))
    sizes = write(out, _files(site))
    return SiteBuilt(tuple(out / name for name in sizes), sizes, tuple(site.left_out))


def _files(site: pages.Site) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site with its path, one at a time to save memory."""
    board = site.board
    yield from ((f"assets/{name}", pages.asset(name)) for name in pages.ASSETS)
    yield "assets/vega.js", chart.runtime()
    # `run.html` lists the prefixes, so the files of the runs come before it.
    prefixes: list[str] = []
    yield from _run_files(site, prefixes)
    yield "run.html", pages.run_page(site, prefixes)
    yield "data/cells.csv", board.cells_csv
    entries = []
    for own in board.tracks.values():
        content = pages.track_content(site, own)
        # With several tracks, the start page compares them instead of showing each chart.
        entries.append(pages.index_entry(content, with_chart=len(board.tracks) == 1))
        yield from pages.figure_files(site.figures(own.track))
        yield f"track/{own.slug}.html", pages.track_page(site, content)
    methods = []
    for name, runs in board.frame.runs.groupby("method"):
        methods.append(about(str(name), runs))
        yield f"method/{board.methods[str(name)]}.html", pages.method_page(site, methods[-1], runs)
    # The start page comes last, because every other page may add to the missing results.
    yield "index.html", pages.index_page(site, entries, methods)


def _run_files(site: pages.Site, prefixes: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield masks and the data of all runs; add the prefixes of keys to `prefixes`."""
    runs, stores, mask_digests = site.board.frame.runs, site.board.stores, {}
    for key, data in run_files.masks(runs, stores, site.left_out):
        mask_digests[key] = sha256(data).hexdigest()
        yield f"masks/{key}.safetensors", data
    for prefix, data in run_files.runs_by_prefix(runs, stores, mask_digests):
        prefixes.append(prefix)
        yield f"data/runs/{prefix}.js", data
    yield "data/runs.parquet", parquet(runs)

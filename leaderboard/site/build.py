"""Write the site as files. The same records give the same bytes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.store.store import Store
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.export import csv, parquet
from paibench.leaderboard.frame.load import Frame
from paibench.leaderboard.frame.rows import models
from paibench.leaderboard.missing import missing_results
from paibench.leaderboard.published import load as published
from paibench.leaderboard.site import chart, pages
from paibench.leaderboard.site import runs as run_files
from paibench.leaderboard.site.method_page import about
from paibench.leaderboard.site.numbers import numbers
from paibench.leaderboard.site.output import write
from paibench.leaderboard.site.slugs import method_slugs, track_slugs
from paibench.leaderboard.site.tables import track_view
from paibench.leaderboard.stats.summary import Track, tracks
from paibench.leaderboard.submission.verification_level import add_marks
from paibench.methods.core.registry import UserError

Figures = Mapping[Track, Mapping[str, bytes]]


@dataclass(frozen=True)
class SiteBuilt:
    """The files of a site with their sizes, and what is missing from it."""

    paths: tuple[Path, ...]
    bytes: dict[str, int]
    """The size of each file by its path within the site."""
    left_out: tuple[str, ...]
    """A line for each missing result, with the reason."""


def build_site(
    frame: Frame,
    out: Path,
    roots: Sequence[Path] = (),
    *,
    figures: Figures | None = None,
    marks: Mapping[str, str] | None = None,
    public: bool = False,
) -> SiteBuilt:
    """Write the site of a frame into the folder `out`, and remove files of an earlier build.

    `roots` are the stores of the frame. Curves and masks are read from them; without `roots`, the
    pages of runs have neither. `figures` are the files of the figures of each track by their names
    ("accuracy-SLUG.svg"). `marks` are the levels of verification by key (`read_levels`); if the
    site is `public`, only verified cells hold ranks 1 to 3. Raises UserError if the frame has no
    record to show, or if `out` cannot be written.
    """
    if not frame.runs["status"].isin(["done", "diverged", "skipped"]).any():
        raise UserError("there are no records to show; run a sweep first")
    # Sums of floats depend on their order, so the order must not depend on that of the stores.
    ordered = frame.runs.sort_values("key", kind="stable", ignore_index=True)
    runs = add_marks(ordered, marks or {})
    frame = Frame(runs, tuple(sorted(frame.problems)))
    computed = numbers(runs, marks or {}, public)
    site = pages.Site(
        frame,
        computed,
        tracks=track_slugs(track for track, _ in tracks(computed.cells)),
        methods=method_slugs(runs["method"].astype(str)),
        published=published.load(),
        models=models(runs),
        figures=figures or {},
        public=public,
    )
    site.left_out += map(clean, missing_results(frame))
    sizes = write(out, _files(site, [Store.read(root) for root in roots]))
    return SiteBuilt(tuple(out / name for name in sizes), sizes, tuple(site.left_out))


def _files(site: pages.Site, stores: Sequence[Store]) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site with its path. Files are written one by one to save memory."""
    yield from ((f"assets/{name}", pages.asset(name)) for name in pages.ASSETS)
    yield "assets/vega.js", chart.runtime()
    prefixes: list[str] = []
    yield from _run_files(site, stores, prefixes)
    yield "run.html", pages.run_page(site, prefixes)
    yield "data/cells.csv", csv(site.numbers.cells).encode()
    entries = []
    for track, cells in tracks(site.numbers.cells):
        model, slug = site.models[track.model], site.tracks[track]
        view = track_view(track, model, cells, site.methods, slug, site.numbers.rows)
        tables = pages.track_tables(site, view)
        entries.append(pages.index_entry(view, tables))
        yield from pages.figure_files(site.figures.get(track, {}))
        yield f"track/{slug}.html", pages.track_page(site, view, tables)
    known = []
    for method, own in site.frame.runs.groupby("method"):
        known.append(about(str(method), own))
        yield f"method/{site.methods[str(method)]}.html", pages.method_page(site, known[-1], own)
    # The start page comes last, because every other page may add to the missing results.
    yield "index.html", pages.index_page(site, entries, known)


def _run_files(
    site: pages.Site, stores: Sequence[Store], prefixes: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield masks and the data of all runs; add the prefixes of keys to `prefixes`."""
    runs, mask_digests = site.frame.runs, {}
    for key, data in run_files.masks(runs, stores, site.left_out):
        mask_digests[key] = sha256(data).hexdigest()
        yield f"masks/{key}.safetensors", data
    for prefix, data in run_files.runs_by_prefix(runs, stores, mask_digests):
        prefixes.append(prefix)
        yield f"data/runs/{prefix}.js", data
    yield "data/runs.parquet", parquet(runs)

"""The site as files: the same records give the same bytes, and every file is replaced whole."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.store.store import Store
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.export import csv, parquet
from paibench.leaderboard.frame.load import Frame
from paibench.leaderboard.frame.rows import models
from paibench.leaderboard.missing import missing_results
from paibench.leaderboard.published import load as published
from paibench.leaderboard.site import chart, pages
from paibench.leaderboard.site import runs as run_files
from paibench.leaderboard.site.method_info import About, about
from paibench.leaderboard.site.numbers import numbers
from paibench.leaderboard.site.output import write
from paibench.leaderboard.site.pages import ASSETS, asset, environment, page
from paibench.leaderboard.site.slugs import method_slugs, track_slugs
from paibench.leaderboard.site.tables import boards, frames
from paibench.leaderboard.stats.summary import Track, tracks
from paibench.leaderboard.submission.verification_level import add_marks
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


def build_site(
    frame: Frame,
    out: Path,
    roots: Sequence[Path] = (),
    *,
    figures: Figures | None = None,
    marks: Mapping[str, str] | None = None,
    public: bool = False,
) -> SiteBuilt:
    """Write the site of a frame into the folder `out`, and remove what an earlier build left.

    `roots` are the stores of the frame, which have the accuracies by epoch and the masks; without
    them the pages of runs have neither. `figures` are files by their name ("accuracy-SLUG.svg", and
    png and pdf) for the tracks that have any. `marks` say by key how far a record was checked
    (`marks.of`); with `public` only cells that are verified hold places 1 to 3. Raises UserError
    where the frame has no record to show, or where `out` cannot be written.
    """
    counts = Counter(frame.runs["status"])
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        raise UserError("there are no records to show; run a sweep first")
    # In the order of keys, as sums of floats depend on it.
    ordered = frame.runs.sort_values("key", kind="stable", ignore_index=True)
    known = add_marks(ordered, marks or {})
    frame = Frame(known, tuple(sorted(frame.problems)))
    made = numbers(known, marks or {}, public)
    slugs = track_slugs(track for track, _ in tracks(made.cells))
    methods = method_slugs(known["method"].astype(str))
    theirs = published.load()
    templates, known_models = environment(), models(known)
    site = pages.Site(
        frame, made, templates, slugs, methods, theirs, known_models, figures or {}, public
    )
    site.left_out += map(clean, missing_results(frame))
    stores = [Store.read(root) for root in roots]
    sizes = write(out, _files(site, stores, counts))
    return SiteBuilt(tuple(out / name for name in sizes), sizes, tuple(site.left_out))


def _files(
    site: pages.Site, stores: Sequence[Store], counts: Counter[str]
) -> Iterator[tuple[str, bytes]]:
    yield from ((f"assets/{name}", asset(name)) for name in ASSETS)
    yield "assets/vega.js", chart.runtime()
    prefixes: list[str] = []
    yield from _runs(site, stores, prefixes)
    yield "data/cells.csv", csv(site.made.cells).encode()
    ranked = []
    for track, cells in tracks(site.made.cells):
        shown = frames(track, cells, site.methods, site.tracks[track], site.made.rows)
        found = boards(shown)
        ranked.append(pages.on_index(shown, found))
        yield from pages.written(site.figures.get(track, {}))
        yield f"track/{shown.slug}.html", pages.track(site, shown, found)
    known: list[About] = []
    for method, own in site.frame.runs.groupby("method"):
        known.append(about(str(method), own))
        yield f"method/{site.methods[known[-1].name]}.html", pages.method(site, known[-1], own)
    meanings = {name: column.meaning for name, column in COLUMNS.items()} | {"mark": _MARK}
    run = page(site.templates, "run.html", root="", prefixes=prefixes, meanings=meanings)
    yield "run.html", run
    yield "index.html", pages.index(site, ranked, known, counts)


def _runs(
    site: pages.Site, stores: Sequence[Store], prefixes: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Every run: masks, what the page of a run reads, and all of them as one file."""
    runs, offered = site.frame.runs, {}
    for key, data in run_files.masks(runs, stores, site.left_out):
        offered[key] = sha256(data).hexdigest()
        yield f"masks/{key}.safetensors", data
    for name, data in run_files.shards(runs, stores, offered):
        prefixes.append(name.removesuffix(".js"))
        yield f"data/runs/{name}", data
    yield "data/runs.parquet", parquet(runs)

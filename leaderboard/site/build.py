"""The site as files: the same records give the same bytes, and every file is replaced whole."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from paibench.benchmark.commit import StoreError, replace
from paibench.leaderboard.columns import COLUMNS
from paibench.leaderboard.frame import Frame
from paibench.leaderboard.site import chart, downloads, shards
from paibench.leaderboard.site.across_boards import across_part
from paibench.leaderboard.site.board import Board, clean
from paibench.leaderboard.site.catalog import About, about
from paibench.leaderboard.site.gaps import gaps
from paibench.leaderboard.site.method_boards import COLUMNS as METHOD_COLUMNS
from paibench.leaderboard.site.method_boards import parts
from paibench.leaderboard.site.names import method_slugs, track_slugs
from paibench.leaderboard.site.numbers import Numbers, numbers
from paibench.leaderboard.site.pages import ASSETS, asset, environment, page
from paibench.leaderboard.site.start_board import narrow
from paibench.leaderboard.site.supermask_board import supermasks
from paibench.leaderboard.site.track_boards import Frames, boards, differences, frames
from paibench.leaderboard.site.verdict_boards import verdicts
from paibench.leaderboard.summary import OUTCOMES, TRACK, Track, tracks
from paibench.methods.registry import UserError

_GAPS = 200


@dataclass(frozen=True)
class SiteBuilt:
    """The files that were written, how large they are, and what is not in them and why."""

    paths: tuple[Path, ...]
    bytes: dict[str, int]
    """The size of each file by its path within the site."""
    left_out: tuple[str, ...]


@dataclass
class _Site:
    """What all pages need, and the lines of what was left out, as they come up."""

    frame: Frame
    made: Numbers
    templates: jinja2.Environment
    tracks: dict[Track, str]
    methods: dict[str, str]
    left_out: list[str] = field(default_factory=list)


def build_site(frame: Frame, out: Path, root: Path | None = None) -> SiteBuilt:
    """Write the site of a frame into the folder `out`.

    `root` is the store of the frame, which has the accuracies by epoch; without it the pages of
    runs have no curves. Raises UserError where the frame has no record to show, or where `out`
    cannot be written.
    """
    counts = Counter(frame.runs["status"])
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        raise UserError("there are no records to show; run a sweep first")
    # In the order of keys, as sums of floats depend on it.
    ordered = frame.runs.sort_values("key", kind="stable", ignore_index=True)
    frame = Frame(ordered, tuple(sorted(frame.problems)))
    made = numbers(frame.runs)
    slugs = track_slugs(track for track, _ in tracks(made.cells))
    site = _Site(frame, made, environment(), slugs, method_slugs(frame.runs["method"].astype(str)))
    site.left_out += map(clean, gaps(frame))
    sizes, paths = {}, []
    for name, data in _files(site, root, counts):
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, data)
        except (OSError, StoreError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{str(path)!r} cannot be written: {reason}") from error
        sizes[name] = len(data)
        paths.append(path)
    return SiteBuilt(tuple(paths), sizes, tuple(site.left_out))


def _files(site: _Site, root: Path | None, counts: Counter[str]) -> Iterator[tuple[str, bytes]]:
    yield from ((f"assets/{name}", asset(name)) for name in ASSETS)
    yield "assets/vega.js", chart.runtime()
    runs = site.frame.runs
    prefixes = []
    for name, data in shards.shards(runs, root):
        prefixes.append(name.removesuffix(".js"))
        yield f"data/runs/{name}", data
    yield "data/runs.parquet", downloads.parquet(runs)
    yield "data/cells.csv", downloads.cells(site.made.cells)
    ranked = []
    for track, cells in tracks(site.made.cells):
        shown = frames(track, cells, site.methods, site.tracks[track], site.made.rows)
        found = boards(shown)
        ranked.append(_on_index(shown, found))
        yield f"track/{shown.slug}.html", _track(site, shown, found)
    known: list[About] = []
    for method, own in runs.groupby("method"):
        known.append(about(str(method), own))
        yield f"method/{site.methods[known[-1].name]}.html", _method(site, known[-1], own)
    meanings = {name: column.meaning for name, column in COLUMNS.items()}
    yield (
        "run.html",
        page(site.templates, "run.html", root="", prefixes=prefixes, meanings=meanings),
    )
    yield "index.html", _index(site, ranked, known, counts)


def _title(track: Track) -> str:
    return clean(f"{track.model} on {track.dataset}")


def _on_index(shown: Frames, found: list[Board]) -> dict[str, Any]:
    title = _title(shown.track)
    return {"slug": shown.slug, "title": title, "board": narrow(shown, found, title)}


def _index(
    site: _Site, ranked: list[dict[str, Any]], known: list[About], counts: Counter[str]
) -> bytes:
    said = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    methods = [{"slug": site.methods[a.name], "name": a.name, "summary": a.summary} for a in known]
    many = len(ranked) != 1
    labels = site.made.cells[["method_label", "method"]].drop_duplicates()
    hrefs = {
        str(label): f"method/{site.methods[str(name)]}.html"
        for label, name in labels.values.tolist()
    }
    words = (
        f"Of {sum(counts.values()):,} runs on {len(ranked)} track{'s' * many}: {', '.join(said)}"
    )
    return page(
        site.templates,
        "index.html",
        root="",
        counts=words,
        tracks=ranked,
        across=across_part(site.made.across, hrefs) if many else None,
        methods=methods,
        left_out=site.left_out[:_GAPS],
        more=max(0, len(site.left_out) - _GAPS),
    )


def _track(site: _Site, shown: Frames, found: list[Board]) -> bytes:
    track = shown.track
    made = site.made
    more = (verdicts(shown, made.controls), supermasks(shown, made.supermasks), differences(shown))
    extra = [board for board in more if board]
    names, all_names = chart.drawn(shown.cells)
    cut = [f"{b.cut - len(b.rows)} rows of {b.title.lower()}" for b in (*found, *extra) if b.cut]
    if cut:
        site.left_out.append(
            f"from the page of {_title(track)}: {', '.join(cut)}, for want of room; "
            "data/cells.csv has all"
        )
    lost = list(map(clean, gaps(_part(site.frame, track))))
    values = (f"{int(n):,}" for n in sorted(shown.cells["prunable"].dropna().unique()))
    facts = [(name, getattr(track, name)) for name in TRACK[2:]]
    facts += [("prunable weights", " or ".join(values) or "unknown")]
    return page(
        site.templates,
        "track.html",
        root="../",
        slug=shown.slug,
        title=_title(track),
        facts=facts,
        chart=chart.chart(shown.cells),
        enlarged=chart.enlarged(shown.cells),
        drawn=len(names),
        undrawn=all_names - len(names),
        boards=[*found, *extra],
        left_out=lost[:_GAPS],
        more=max(0, len(lost) - _GAPS),
    )


def _part(frame: Frame, track: Track) -> Frame:
    runs = frame.runs
    own = pd.Series(True, runs.index)
    for name, value in zip(TRACK, track, strict=True):
        own &= runs[name] == value
    return Frame(runs[own])


def _method(site: _Site, known: About, runs: pd.DataFrame) -> bytes:
    cells = site.made.cells[site.made.cells["method"] == known.name]
    found, dropped = parts(cells, runs, site.tracks)
    if dropped:
        site.left_out.append(
            f"from the page of {known.name}: {dropped} cells, for want of room; "
            "data/cells.csv has all"
        )
    return page(
        site.templates,
        "method.html",
        root="../",
        slug=site.methods[known.name],
        about=known,
        parts=found,
        columns=METHOD_COLUMNS,
        dropped=dropped,
    )

"""Templates made pages: all that is printed is cleaned and escaped, nothing may be missing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from paibench.leaderboard.board import Board
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.load import Frame
from paibench.leaderboard.missing import missing_results
from paibench.leaderboard.site import chart
from paibench.leaderboard.site.method_info import About
from paibench.leaderboard.site.tables import RUN_COLUMNS as METHOD_COLUMNS
from paibench.leaderboard.site.tables import (
    Frames,
    across_part,
    differences,
    narrow,
    parts,
    published,
    supermasks,
    verdicts,
)
from paibench.leaderboard.stats.summary import OUTCOMES, TRACK, Track, of_track
from paibench.leaderboard.submission.verification_level import LEVELS
from paibench.leaderboard.tables import Table

_HERE = Path(__file__).parent
ASSETS = ("site.css", "theme.js", "table.js", "chart.js", "run.js")


def environment() -> jinja2.Environment:
    """The templates: escaped, strict about what is not defined, without invisible characters."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(templates: jinja2.Environment, name: str, **values: Any) -> bytes:
    """One page as bytes."""
    return templates.get_template(name).render(**values).encode()


def asset(name: str) -> bytes:
    """One of our own scripts or styles."""
    return (_HERE / "assets" / name).read_bytes()


def _cleaned(value: Any) -> Any:
    # What has `__html__` is markup of our own templates, escaped already.
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


# pictures: Figures for papers on the page of a track: what is shown, what it says, how it is had.

FOLDER = "figures"
_KINDS = ("svg", "png", "pdf")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:svg|png|pdf)")
_BOX = re.compile(rb'<svg\b[^>]{0,2000}?\sviewBox="0 0 ([\d.]{1,9}) ([\d.]{1,9})"')
_WORDS = {
    "accuracy": "Accuracy against sparsity",
    "untrained": "Accuracy before training against sparsity",
    "trained": "Accuracy before and after training against the share of weights kept",
    "native": "Accuracy of supermasks as their own search would deploy them, against sparsity",
    "profiles": "Share of weights kept in each layer, by method",
    "cost": "Accuracy against what finding the mask cost",
    "widths": "Accuracy against the width of the model",
}
_PIXELS = 4 / 3  # of a point


class Picture(NamedTuple):
    """One figure: what it shows in words, the file that a page shows, and all of its files."""

    title: str
    alt: str
    shown: str | None
    width: int | None
    height: int | None
    files: tuple[tuple[str, str], ...]
    """What each file is called on the page, and its name."""


def pictures(files: Mapping[str, bytes], track: str) -> list[Picture]:
    """The figures of a track from its files, "accuracy-SLUG.svg" and so on, by kind.

    Raises ValueError for a name that is none of a figure.
    """
    stems: dict[str, dict[str, str]] = {}
    for name in sorted(files):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a figure")
        stem, _, kind = name.rpartition(".")
        stems.setdefault(stem, {})[kind] = name
    order = list(_WORDS)

    def place(stem: str) -> tuple[int, str]:
        prefix = stem.partition("-")[0]
        return (order.index(prefix) if prefix in order else len(order), stem)

    return [_picture(stem, stems[stem], files, track) for stem in sorted(stems, key=place)]


def written(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The files of the figures by their place in the site."""
    yield from ((f"{FOLDER}/{name}", data) for name, data in sorted(files.items()))


def _picture(
    stem: str, names: Mapping[str, str], files: Mapping[str, bytes], track: str
) -> Picture:
    prefix = stem.partition("-")[0]
    title = _WORDS.get(prefix, clean(prefix))
    shown = names.get("svg") or names.get("png")
    width, height = _size(files[names["svg"]]) if "svg" in names else (None, None)
    alt = f"{title}, {track}; the tables of this page and data/cells.csv have the numbers."
    offered = tuple((kind.upper(), names[kind]) for kind in _KINDS if kind in names)
    return Picture(title, alt, shown, width, height, offered)


def _size(svg: bytes) -> tuple[int | None, int | None]:
    """Width and height in pixels, so that the page does not jump when the figure comes."""
    if not (found := _BOX.search(svg[:5_000])):
        return None, None
    try:
        return round(_PIXELS * float(found[1])), round(_PIXELS * float(found[2]))
    except ValueError:  # more than one point in it
        return None, None


# views: The pages of a site: what each is given to print.

_GAPS = 200


@dataclass
class Site:
    """What all pages need, and the lines of what was left out, as they come up."""

    board: Board
    templates: jinja2.Environment
    figures: Mapping[Track, Mapping[str, bytes]]
    left_out: list[str]


def _title(track: Track) -> str:
    return clean(f"{track.model} on {track.dataset}")


def on_index(shown: Frames, found: list[Table]) -> dict[str, Any]:
    """What the start page has of a track."""
    title = _title(shown.track)
    return {"slug": shown.slug, "title": title, "board": narrow(shown, found, title)}


def index(site: Site, ranked: list[dict[str, Any]], known: list[About]) -> bytes:
    """The start page: the head of each ranking, the comparison, methods, and what is missing."""
    counts = {outcome: site.board.counts[outcome] for outcome in OUTCOMES}
    said = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    marks = _marks(site.board.frame.runs)
    methods = [
        {
            "slug": site.board.methods[a.name],
            "name": a.name,
            "summary": a.summary,
            "marks": marks[a.name],
        }
        for a in known
    ]
    many = len(ranked) != 1
    labels = site.board.cells[["method_label", "method"]].drop_duplicates()
    hrefs = {
        str(label): f"method/{site.board.methods[str(name)]}.html"
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
        across=across_part(site.board.cross_track, hrefs) if many else None,
        methods=methods,
        public=site.board.public,
        left_out=site.left_out[:_GAPS],
        more=max(0, len(site.left_out) - _GAPS),
    )


def track(site: Site, shown: Frames, found: list[Table]) -> bytes:
    """The page of a track: chart, tables, figures, and what is missing from it."""
    track, title = shown.track, _title(shown.track)
    tables = [*found, *_more(site, shown)]
    names, all_names = chart.drawn(shown.cells)
    cut = [f"{b.cut - len(b.rows)} rows of {b.title.lower()}" for b in tables if b.cut]
    if cut:
        site.left_out.append(
            f"from the page of {title}: {', '.join(cut)}, for want of room; data/cells.csv has all"
        )
    spec = chart.chart(shown.cells, site.board.tracks[track].figures)
    lost = list(map(clean, missing_results(Frame(of_track(site.board.frame.runs, track)))))
    values = (f"{int(n):,}" for n in sorted(shown.cells["prunable"].dropna().unique()))
    facts = [(name, getattr(track, name)) for name in TRACK[2:]]
    facts += [("prunable weights", " or ".join(values) or "unknown")]
    return page(
        site.templates,
        "track.html",
        root="../",
        slug=shown.slug,
        title=title,
        facts=facts,
        chart=spec,
        hollow=spec is not None and chart.has_hollow(spec),
        enlarged=chart.enlarged(shown.cells),
        drawn=len(names),
        undrawn=all_names - len(names),
        boards=tables,
        pictures=pictures(site.figures.get(track, {}), title),
        left_out=lost[:_GAPS],
        more=max(0, len(lost) - _GAPS),
    )


def _more(site: Site, shown: Frames) -> list[Table]:
    """The tables of a track that only some have."""
    made = site.board
    found = (
        verdicts(shown, made.control_verdicts),
        supermasks(shown, made.supermasks),
        differences(shown),
        published(shown, made.tracks[shown.track].reproduction),
    )
    return [board for board in found if board]


def _marks(runs: pd.DataFrame) -> dict[str, str]:
    """How many runs of each method that gave an accuracy have which mark, in words."""
    counts = runs[runs["accuracy"].notna()].groupby(["method", "mark"]).size().to_dict()
    words = {
        method: [
            f"{counts[method, kind]:,} {kind}" for kind in LEVELS[::-1] if (method, kind) in counts
        ]
        for method in runs["method"].unique()
    }
    return {
        method: f"runs: {', '.join(said) or 'none with an accuracy'}"
        for method, said in words.items()
    }


def method(site: Site, known: About, runs: pd.DataFrame) -> bytes:
    """The page of a method: its source's words, and its cells on every track."""
    cells = site.board.cells[site.board.cells["method"] == known.name]
    found, dropped = parts(cells, runs, site.board.tracks)
    if dropped:
        site.left_out.append(
            f"from the page of {known.name}: {dropped} cells, for want of room; "
            "data/cells.csv has all"
        )
    return page(
        site.templates,
        "method.html",
        root="../",
        slug=site.board.methods[known.name],
        about=known,
        parts=found,
        columns=METHOD_COLUMNS,
        dropped=dropped,
    )

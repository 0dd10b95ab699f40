"""The pages of the site: the templates, and what each of them is given to print."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import jinja2
import pandas as pd

from paibench.leaderboard.board import Board, TrackBoard
from paibench.leaderboard.figures.style import line_styles
from paibench.leaderboard.format import clean, prunable_counts
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.load import Frame
from paibench.leaderboard.missing import missing_results
from paibench.leaderboard.site import chart
from paibench.leaderboard.site.cross_track import cross_track_section
from paibench.leaderboard.site.method_page import RUN_COLUMNS, About, track_parts
from paibench.leaderboard.site.tables import (
    TrackView,
    accuracy_tables,
    control_table,
    difference_tables,
    disagreement_table,
    headline,
    index_table,
    published_table,
    supermask_table,
    track_view,
)
from paibench.leaderboard.stats.summary import OUTCOMES, TRACK, Track, of_track
from paibench.leaderboard.submission.verification_level import LEVELS
from paibench.leaderboard.tables import Table

ASSETS = ("site.css", "theme.js", "table.js", "chart.js", "run.js")
_HERE = Path(__file__).parent
_MAX_LINES = 200  # of missing results on a page
_MARK = "self-reported, checked or verified: whether maintainers ran it again, and how"
_FORMATS = ("svg", "png", "pdf")
_FIGURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:svg|png|pdf)")
_FIGURE_TITLES = {
    "accuracy": "Accuracy against sparsity",
    "untrained": "Accuracy before training against sparsity",
    "trained": "Accuracy before and after training against the share of weights kept",
    "native": "Accuracy of supermasks as their own search deploys them, against sparsity",
    "distances": "Distances between the masks that a search draws as it goes",
    "profiles": "Share of weights kept in each layer, by method",
    "cost": "Accuracy against the cost of the search",
    "widths": "Accuracy against the width of the model",
    "widths_untrained": "Accuracy before training against the width of the model",
}
_PIXELS = 4 / 3  # per point


@dataclass
class Site:
    """What all pages need. `left_out` collects lines about missing results from all pages."""

    board: Board
    figures: Callable[[Track], Mapping[str, bytes]]
    left_out: list[str]

    def __post_init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            # A missing value is an error in a template, and must not become an empty cell.
            undefined=jinja2.StrictUndefined,
            finalize=_cleaned,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def page(self, template: str, **values: Any) -> bytes:
        """Render one page."""
        page = self._templates.get_template(template)
        source = (self.board.source or "").rstrip("/")
        return page.render(origin=self.board.origin, source=source, **values).encode()


class Picture(NamedTuple):
    """A figure on the page of a track: its title, the file that is shown, and all of its files."""

    title: str
    alt: str
    shown: str | None
    width: int | None
    height: int | None
    files: tuple[tuple[str, str], ...]
    """The format and the name of each file."""


def asset(name: str) -> bytes:
    """Return one of the scripts and styles of the site."""
    return (_HERE / "assets" / name).read_bytes()


def index_page(site: Site, tracks: list[dict[str, Any]], methods: list[About]) -> bytes:
    """Return the start page: the comparison, the head of each ranking, methods, missing results.

    With one track, its chart stands there too.
    """
    board, runs = site.board, site.board.frame.runs
    counts = board.counts
    outcomes = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    # With one track there is nothing to compare across tracks.
    several = len(tracks) != 1
    levels = _levels_by_method(runs)
    labels = board.cells[["method_label", "method"]].drop_duplicates()
    hrefs = {
        str(label): f"method/{board.methods[str(method)]}.html"
        for label, method in labels.values.tolist()
    }
    return site.page(
        "index.html",
        root="",
        counts=f"{len(runs):,} runs on {len(tracks)} track{'s' * several}: {', '.join(outcomes)}",
        tracks=tracks,
        chart=None if several else tracks[0]["chart"],
        across=cross_track_section(board.cross_track, hrefs) if several else None,
        methods=[
            {
                "slug": board.methods[about.name],
                "name": about.name,
                "summary": about.summary,
                "levels": levels[about.name],
            }
            for about in methods
        ],
        public=board.public,
        **_limited(site.left_out),
    )


class TrackContent(NamedTuple):
    """What the start page and the page of a track show of it."""

    view: TrackView
    title: str
    result: str
    """The result in words, see `headline`."""
    tables: list[Table]
    pictures: list[Picture]
    chart: dict[str, Any]


def track_content(site: Site, own: TrackBoard) -> TrackContent:
    """Return what is shown of a track."""
    view = track_view(site.board, own)
    title = clean(f"{own.track.model} on {own.track.dataset}")
    shown = pictures(site.figures(own.track), title)
    chart = _chart(site, view, shown)
    return TrackContent(view, title, headline(view), track_tables(view), shown, chart)


def index_entry(content: TrackContent, *, with_chart: bool) -> dict[str, Any]:
    """Return what the start page shows of a track."""
    return {
        "slug": content.view.own.slug,
        "title": content.title,
        "result": content.result,
        "table": index_table(content.view, content.tables, content.title),
        "chart": content.chart if with_chart else None,
    }


def track_tables(view: TrackView) -> list[Table]:
    """Return all tables of a track."""
    optional = [
        *(control_table(view), supermask_table(view)),
        *difference_tables(view),
        disagreement_table(view),
        published_table(view),
    ]
    return [*accuracy_tables(view), *(table for table in optional if table)]


def track_page(site: Site, content: TrackContent) -> bytes:
    """Return the page of a track: chart, tables, figures and missing results."""
    track, cells = content.view.own.track, content.view.cells
    cut = [f"{t.cut - len(t.rows)} rows of {t.title.lower()}" for t in content.tables if t.cut]
    if cut:
        site.left_out.append(
            f"{', '.join(cut)} do not fit on the page of {content.title}; data/cells.csv has all "
            "of them"
        )
    # The first two, data set and model, are in the title.
    facts = [(name, getattr(track, name)) for name in TRACK[2:]]
    facts += [("prunable weights", "".join(prunable_counts(cells)))]
    return site.page(
        "track.html",
        root="../",
        slug=content.view.own.slug,
        title=content.title,
        facts=facts,
        result=content.result,
        protocol=track.protocol,
        chart=content.chart,
        tables=content.tables,
        pictures=content.pictures,
        # Files that cannot be read belong to no track; only the start page lists them.
        **_limited(
            list(map(clean, missing_results(Frame(of_track(site.board.frame.runs, track)))))
        ),
    )


def _chart(site: Site, view: TrackView, pictures: Iterable[Picture]) -> dict[str, Any]:
    """Return what a template needs to draw the chart of a track."""
    cells = view.cells
    styles = line_styles(site.board.cells["method_label"])
    names, number_of_rows = chart.drawn(cells)
    spec = chart.chart(cells, view.own.figures, styles=styles, known=site.board.known)
    title = _FIGURE_TITLES["accuracy"]
    return {
        "spec": spec,
        "published": spec is not None and chart.has_published(spec),
        "enlarged": chart.enlarged(cells),
        "drawn": len(names),
        "undrawn": number_of_rows - len(names),
        "still": next((each for each in pictures if each.title == title), None),
    }


def method_page(site: Site, about: About, runs: pd.DataFrame) -> bytes:
    """Return the page of a method: its description, and its cells in every track."""
    cells = site.board.cells[site.board.cells["method"] == about.name]
    parts, dropped = track_parts(cells, runs, site.board.tracks)
    if dropped:
        site.left_out.append(
            f"{dropped} cells do not fit on the page of {about.name}; data/cells.csv has all of "
            "them"
        )
    return site.page(
        "method.html",
        root="../",
        slug=site.board.methods[about.name],
        about=about,
        parts=parts,
        columns=RUN_COLUMNS,
        dropped=dropped,
    )


def run_page(site: Site, prefixes: list[str]) -> bytes:
    """Return the page that shows any run; its script loads the runs of a prefix of keys."""
    meanings = {name: column.meaning for name, column in COLUMNS.items()} | {"mark": _MARK}
    return site.page("run.html", root="", prefixes=prefixes, meanings=meanings)


def pictures(files: Mapping[str, bytes], track: str) -> list[Picture]:
    """Return the figures of a track from its files: "accuracy-SLUG.svg", and so on.

    Raises ValueError if a name is not that of a figure.
    """
    stems: dict[str, dict[str, str]] = {}
    for name in sorted(files):
        # The name becomes a path in the site and an address in a page.
        if not _FIGURE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a figure")
        stem, _, kind = name.rpartition(".")
        stems.setdefault(stem, {})[kind] = name
    order = list(_FIGURE_TITLES)

    def position(stem: str) -> tuple[int, str]:
        prefix = stem.partition("-")[0]
        return (order.index(prefix) if prefix in order else len(order), stem)

    return [_picture(stem, stems[stem], files, track) for stem in sorted(stems, key=position)]


def figure_files(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of figures with their path in the site."""
    yield from ((f"figures/{name}", data) for name, data in sorted(files.items()))


def _picture(
    stem: str, names: Mapping[str, str], files: Mapping[str, bytes], track: str
) -> Picture:
    prefix = stem.partition("-")[0]
    title = _FIGURE_TITLES.get(prefix, clean(prefix))
    width, height = _size(files[names["svg"]]) if "svg" in names else (None, None)
    return Picture(
        title,
        alt=f"{title}, {track}. The tables of this page and data/cells.csv have the numbers.",
        # SVG is sharp at any size, and browsers do not show a PDF as a picture.
        shown=names.get("svg") or names.get("png"),
        width=width,
        height=height,
        files=tuple((kind.upper(), names[kind]) for kind in _FORMATS if kind in names),
    )


def _size(svg: bytes) -> tuple[int | None, int | None]:
    """Return width and height in pixels, so that the page does not jump when the figure loads."""
    try:
        # The root element is enough; the rest of a large figure need not be parsed.
        _, root = next(ElementTree.iterparse(io.BytesIO(svg), ["start"]))
        width, height = (
            float(root.get(side, "").removesuffix("pt")) for side in ("width", "height")
        )
    except (ElementTree.ParseError, StopIteration, ValueError):
        return None, None
    return round(_PIXELS * width), round(_PIXELS * height)


def _limited(lines: list[str]) -> dict[str, Any]:
    """Return the first lines of missing results, and the number of the others."""
    return {"left_out": lines[:_MAX_LINES], "more": max(0, len(lines) - _MAX_LINES)}


def _levels_by_method(runs: pd.DataFrame) -> dict[str, str]:
    """Return, in words, how many runs of each method have an accuracy at each level."""
    counts = runs[runs["accuracy"].notna()].groupby(["method", "mark"]).size().to_dict()
    levels = {
        method: [f"{n:,} {level}" for level in LEVELS[::-1] if (n := counts.get((method, level)))]
        for method in runs["method"].unique()
    }
    return {
        method: f"runs: {', '.join(listed) or 'none with an accuracy'}"
        for method, listed in levels.items()
    }


def _cleaned(value: Any) -> Any:
    # A value with `__html__` is markup of our own templates, which is escaped already.
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

"""The pages of a site: what each is given to print."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
import pandas as pd

from paibench.leaderboard.frame import Frame
from paibench.leaderboard.gaps import gaps
from paibench.leaderboard.published import published_for
from paibench.leaderboard.site import chart
from paibench.leaderboard.site.across_boards import across_part
from paibench.leaderboard.site.board import Board, clean
from paibench.leaderboard.site.catalog import About
from paibench.leaderboard.site.method_boards import COLUMNS as METHOD_COLUMNS
from paibench.leaderboard.site.method_boards import parts
from paibench.leaderboard.site.numbers import Numbers
from paibench.leaderboard.site.pages import page
from paibench.leaderboard.site.pictures import pictures
from paibench.leaderboard.site.published_board import published
from paibench.leaderboard.site.start_board import narrow
from paibench.leaderboard.site.supermask_board import supermasks
from paibench.leaderboard.site.track_boards import Frames, differences
from paibench.leaderboard.site.verdict_boards import verdicts
from paibench.leaderboard.submission.marks import KINDS
from paibench.leaderboard.summary import OUTCOMES, TRACK, Track, of_track

_GAPS = 200


@dataclass
class Site:
    """What all pages need, and the lines of what was left out, as they come up."""

    frame: Frame
    made: Numbers
    templates: jinja2.Environment
    tracks: dict[Track, str]
    methods: dict[str, str]
    published: pd.DataFrame
    figures: Mapping[Track, Mapping[str, bytes]]
    public: bool
    left_out: list[str] = field(default_factory=list)


def _title(track: Track) -> str:
    return clean(f"{track.model} on {track.dataset}")


def on_index(shown: Frames, found: list[Board]) -> dict[str, Any]:
    """What the start page has of a track."""
    title = _title(shown.track)
    return {"slug": shown.slug, "title": title, "board": narrow(shown, found, title)}


def index(
    site: Site, ranked: list[dict[str, Any]], known: list[About], counts: Counter[str]
) -> bytes:
    """The start page: the head of each ranking, the comparison, methods, and what is missing."""
    said = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    marks = _marks(site.frame.runs)
    methods = [
        {"slug": site.methods[a.name], "name": a.name, "summary": a.summary, "marks": marks[a.name]}
        for a in known
    ]
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
        public=site.public,
        left_out=site.left_out[:_GAPS],
        more=max(0, len(site.left_out) - _GAPS),
    )


def track(site: Site, shown: Frames, found: list[Board]) -> bytes:
    """The page of a track: chart, tables, figures, and what is missing from it."""
    track, title = shown.track, _title(shown.track)
    tables = [*found, *_more(site, shown)]
    names, all_names = chart.drawn(shown.cells)
    cut = [f"{b.cut - len(b.rows)} rows of {b.title.lower()}" for b in tables if b.cut]
    if cut:
        site.left_out.append(
            f"from the page of {title}: {', '.join(cut)}, for want of room; data/cells.csv has all"
        )
    spec = chart.chart(shown.cells, published_for(track, shown.cells, site.published))
    lost = list(map(clean, gaps(Frame(of_track(site.frame.runs, track)))))
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


def _more(site: Site, shown: Frames) -> list[Board]:
    """The tables of a track that only some have."""
    made = site.made
    found = (
        verdicts(shown, made.controls),
        supermasks(shown, made.supermasks),
        differences(shown),
        published(shown, site.published),
    )
    return [board for board in found if board]


def _marks(runs: pd.DataFrame) -> dict[str, str]:
    """How many runs of each method that gave an accuracy have which mark, in words."""
    counts = runs[runs["accuracy"].notna()].groupby(["method", "mark"]).size().to_dict()
    words = {
        method: [
            f"{counts[method, kind]:,} {kind}" for kind in KINDS[::-1] if (method, kind) in counts
        ]
        for method in runs["method"].unique()
    }
    return {
        method: f"runs: {', '.join(said) or 'none with an accuracy'}"
        for method, said in words.items()
    }


def method(site: Site, known: About, runs: pd.DataFrame) -> bytes:
    """The page of a method: its source's words, and its cells on every track."""
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

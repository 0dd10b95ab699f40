"""The leaderboard as files: tables, figures and a site, made from stores alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paibench.benchmark.store.atomic import StoreError, replace_atomic
from paibench.benchmark.store.store import Store
from paibench.leaderboard import format
from paibench.leaderboard.figures.build import figures
from paibench.leaderboard.frame.export import cite_runs, csv, latex
from paibench.leaderboard.frame.load import Frame, load
from paibench.leaderboard.frame.rows import models
from paibench.leaderboard.published import load as published
from paibench.leaderboard.published.compare import as_table, reproduction
from paibench.leaderboard.site.build import build_site
from paibench.leaderboard.site.slugs import track_slugs
from paibench.leaderboard.stats.summary import OUTCOMES, Track, summarize, tracks
from paibench.leaderboard.submission import verification_level
from paibench.leaderboard.tables import Table, accuracy_table, markdown
from paibench.methods.core.registry import UserError

_SHOWN = 20


@dataclass(frozen=True)
class Built:
    """The files that were written, and in one line each what is not in them and why."""

    paths: tuple[Path, ...]
    left_out: tuple[str, ...]
    counts: dict[str, int]
    """How many runs are done, diverged, failed, skipped, missing, and files unreadable."""
    tables: tuple[Table, ...]
    """The table of each track."""


def build(roots: Sequence[Path], out: Path, *, public: bool = False) -> Built:
    """Write leaderboard.md, .csv and .tex, methods.bib, and the site with its figures into `out`.

    From all stores at `roots` together. The same records give the same bytes; each file is
    replaced whole. Where it is `public`, places 1 to 3 are for what maintainers have verified.
    Raises UserError where there is no store, no record in any, or where `out` cannot be written.
    """
    frame = load(*roots)
    counts = count(frame)
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        where = ", ".join(repr(str(root)) for root in roots)
        have = "has" if len(roots) == 1 else "have"
        raise UserError(f"{where} {have} no records to show ({said(counts)}); run a sweep first")
    _make_folder(out)
    summary, known = summarize(frame.runs), published.load()
    page = ["# Leaderboard", "", f"{said(counts).capitalize()}.", ""]
    drawn: dict[Track, dict[str, bytes]] = {}
    left_out, tables = [], []
    found = dict(tracks(summary))
    slugs = track_slugs(found)
    for track, cells in found.items():
        drawn[track], missing = figures(slugs[track], track, summary, frame.runs, known)
        left_out += missing
        tables.append(accuracy_table(track, cells))
        theirs = reproduction(track, models(frame.runs)[track.model], cells, known)
        page += [f"## {format.markdown(f'{track.model} on {track.dataset}')}", ""]
        page += [markdown(tables[-1])]
        page += [f"{_picture(file)}\n" for file in drawn[track] if file.endswith(".png")]
        page += [markdown(as_table(track, theirs))] if len(theirs) else []
    marked = {
        key: mark
        for root in roots
        for key, mark in verification_level.read_levels(Store.read(root)).items()
    }
    site = build_site(frame, out, roots, figures=drawn, marks=marked, public=public)
    left_out = [*site.left_out, *left_out]
    page += _section("Left out", left_out)
    files = {
        "leaderboard.csv": csv(summary).encode(),
        "leaderboard.md": "\n".join(page).encode(),
        "leaderboard.tex": "\n".join(map(latex, tables)).encode(),
        "methods.bib": cite_runs(frame.runs).encode(),
    }
    paths = (*_write(out, files), *site.paths)
    return Built(paths, tuple(left_out), counts, tuple(tables))


def count(frame: Frame) -> dict[str, int]:
    """How many runs of a frame came to each outcome, and how many files could not be read."""
    found = frame.runs["status"].value_counts()
    runs = {outcome: int(found.get(outcome, 0)) for outcome in OUTCOMES}
    return runs | {"unreadable": len(frame.problems)}


def said(counts: dict[str, int]) -> str:
    """Counts of runs as words: "12 done, 1 failed"; what is zero is not said."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing"


def _picture(file: str) -> str:
    return f"![{file.partition('-')[0]}](figures/{file})"


def _section(title: str, lines: list[str]) -> list[str]:
    shown = [f"- {format.markdown(line, 300)}" for line in lines[:_SHOWN]]
    more = [f"- and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"## {title}", "", *shown, *more, ""] if lines else []


def _make_folder(out: Path) -> None:
    """Before anything is drawn, so that a place that cannot be written is known at once."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{str(out)!r} cannot be written to: {reason}; name another folder"
        ) from error


def _write(out: Path, files: dict[str, bytes]) -> Iterable[Path]:
    for name, data in files.items():
        try:
            replace_atomic(out / name, data)
        except StoreError as error:
            raise UserError(f"{error}; name another folder") from error
        yield out / name

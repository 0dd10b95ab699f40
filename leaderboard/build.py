"""The leaderboard as files: a page, a table for programs, and figures, made from a store alone."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from paibench.benchmark.commit import StoreError, replace
from paibench.leaderboard import escape
from paibench.leaderboard.frame import Frame, load
from paibench.leaderboard.looks import Look, looks
from paibench.leaderboard.plot import MEANINGS, Measure, curve, png, svg
from paibench.leaderboard.summary import CELL, OUTCOMES, Track, summarize, tracks
from paibench.leaderboard.table import csv, markdown, table
from paibench.methods.registry import UserError

_PREFIX: dict[Measure, str] = {
    "accuracy": "accuracy",
    "accuracy_untrained": "untrained",
    "native_accuracy": "native",
}
_SHOWN = 20


@dataclass(frozen=True)
class Built:
    """The files that were written, and in one line each what is not in them and why."""

    paths: tuple[Path, ...]
    left_out: tuple[str, ...]
    counts: dict[str, int]
    """How many runs are done, diverged, failed, skipped, missing, and files unreadable."""


def build(root: Path, out: Path) -> Built:
    """Write leaderboard.md, leaderboard.csv and the figures of each track from a store into `out`.

    The same records give the same bytes; each file is replaced whole. Raises UserError where
    there is no store, no record in it, or where `out` cannot be written.
    """
    frame = load(root)
    counts = count(frame)
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        raise UserError(f"{str(root)!r} has no records to show ({said(counts)}); run a sweep first")
    _make_folder(out)
    summary = summarize(frame.runs)
    files: dict[str, bytes] = {}
    left_out = list(_left_out(frame))
    page = ["# Leaderboard", "", f"{said(counts).capitalize()}.", ""]
    styles = looks(summary["method_label"])
    for name, track, cells in _named(summary):
        figures, missing = _figures(name, track, cells, styles)
        files |= figures
        left_out += missing
        pictures = [file for file in figures if file.endswith(".png")]
        page += [f"## {escape.markdown(f'{track.model} on {track.dataset}')}", ""]
        page += [markdown(table(track, cells))]
        page += [f"![{file.partition('-')[0]} against sparsity]({file})\n" for file in pictures]
    page += _section("Left out", left_out)
    files["leaderboard.csv"] = csv(summary).encode()
    files["leaderboard.md"] = "\n".join(page).encode()
    return Built(tuple(_write(out, files)), tuple(left_out), counts)


def count(frame: Frame) -> dict[str, int]:
    """How many runs of a frame came to each outcome, and how many files could not be read."""
    found = frame.runs["status"].value_counts()
    runs = {outcome: int(found.get(outcome, 0)) for outcome in OUTCOMES}
    return runs | {"unreadable": len(frame.problems)}


def said(counts: dict[str, int]) -> str:
    """Counts of runs as words: "12 done, 1 failed"; what is zero is not said."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing"


def _named(summary: pd.DataFrame) -> Iterable[tuple[str, Track, pd.DataFrame]]:
    """The tracks, each with a name for its files that no other has."""
    found = list(tracks(summary))
    often = Counter(track.slug for track, _ in found)
    for track, cells in found:
        slug = track.slug
        yield (f"{slug}-{track.digest}" if often[slug] > 1 else slug), track, cells


def _figures(
    name: str, track: Track, cells: pd.DataFrame, styles: dict[str, Look]
) -> tuple[dict[str, bytes], list[str]]:
    """The figures of a track by file name, and why one that is due is not there."""
    files: dict[str, bytes] = {}
    missing = []
    own = cells[cells["control"] == "none"]
    for measure, prefix in _PREFIX.items():
        if own[f"{measure}_n"].sum():
            figure = curve(track, cells, styles, measure)
            files |= {f"{prefix}-{name}.png": png(figure), f"{prefix}-{name}.svg": svg(figure)}
        elif measure != "native_accuracy":  # which only supermasks have
            what = MEANINGS[measure].removesuffix(" (%)").lower()
            missing.append(f"a figure of the {what} of {name}: no run gave one")
    return files, missing


def _left_out(frame: Frame) -> Iterable[str]:
    """The runs without a result and the files that cannot be read, in one line each."""
    lost = frame.runs[frame.runs["accuracy"].isna() & (frame.runs["status"] != "missing")]
    for run in lost.sort_values(["status", *CELL, "seed"]).to_dict("records"):
        where = f"{run['method_label']} at density {run['density_asked']:g}, seed {run['seed']}"
        reason = run["reason"] if isinstance(run["reason"], str) else "no reason given"
        yield f"{run['status']}: {where}, {run['model']} on {run['dataset']}: {reason}"
    if missing := int((frame.runs["status"] == "missing").sum()):
        yield f"missing: {missing} runs that a sweep asks for have no record"
    if controls := int((frame.runs["control"] != "none").sum()):
        yield f"from the figures: {controls} runs of controls; the tables have them"
    later = Counter(found[0] for problem in frame.problems
                    if (found := re.match(r"schema \d+", problem.reason)))  # fmt: skip
    for schema, number in sorted(later.items()):
        yield f"unreadable: {number} records of {schema}, later than this program; update paibench"
    for path, reason in frame.problems:
        if not re.match(r"schema \d+", reason):
            yield f"unreadable: {path.parent.name}/{path.name}: {reason}"


def _section(title: str, lines: list[str]) -> list[str]:
    shown = [f"- {escape.markdown(line, 300)}" for line in lines[:_SHOWN]]
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
            replace(out / name, data)
        except StoreError as error:
            raise UserError(f"{error}; name another folder") from error
        yield out / name

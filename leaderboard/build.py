"""The leaderboard as files: tables, figures and a site, made from stores alone."""

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paibench.benchmark.store.atomic import StoreError, replace_atomic
from paibench.benchmark.store.layout import all_stores
from paibench.benchmark.store.store import Store
from paibench.leaderboard import format
from paibench.leaderboard.board import compute, count
from paibench.leaderboard.figures.processes import figures
from paibench.leaderboard.frame.citations import cite_runs, keys_of
from paibench.leaderboard.frame.export import csv
from paibench.leaderboard.frame.latex import PACKAGES, latex
from paibench.leaderboard.frame.load import load
from paibench.leaderboard.published.compare import as_table
from paibench.leaderboard.site.build import build_site
from paibench.leaderboard.tables import Table, accuracy_table, markdown
from paibench.methods.core.registry import UserError

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_SHOWN = 200  # reasons for missing results that leaderboard.md lists


@dataclass(frozen=True)
class Built:
    """The files of a leaderboard, and what is in them."""

    paths: tuple[Path, ...]
    left_out: tuple[str, ...]
    """One line for each reason why a result or a figure is missing."""
    counts: dict[str, int]
    """The number of runs of each outcome, and of unreadable files."""
    tables: tuple[Table, ...]
    """The table of each track."""


def build_release(
    roots: Sequence[Path], out: Path, name: str, *, public: bool = False, source: str | None = None
) -> Built:
    """Write a leaderboard into the new folder `out`/`name`, and let `out`/latest lead there.

    A release is never written again: a folder of this name is refused, and the new one appears with
    all of its files or not at all. Raises UserError as `build` does, and for an unusable name.
    """
    folder, link = out / name, out / "latest"
    if not _RELEASE.fullmatch(name) or name == link.name:
        raise UserError(
            f"--release {name!r:.80}: use letters, digits, dots, - and _, such as 2026-12"
        )
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: this release exists and is not changed; choose another name")
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link}: is not a link to a release; move it away")
    _make_folder(out)
    with tempfile.TemporaryDirectory(dir=out, prefix=".release-") as partial:
        built = build(roots, Path(partial) / name, public=public, release=name, source=source)
        os.rename(Path(partial) / name, folder)
        # replaced in one step, so that it always leads to a whole release
        os.symlink(name, Path(partial) / link.name)
        os.replace(Path(partial) / link.name, link)
    paths = (folder / path.relative_to(Path(partial) / name) for path in built.paths)
    return replace(built, paths=tuple(paths))


def build(
    roots: Sequence[Path],
    out: Path,
    *,
    public: bool = False,
    release: str | None = None,
    source: str | None = None,
) -> Built:
    """Write the leaderboard of the stores, or folders of stores, `roots` into the folder `out`.

    These are leaderboard.md, .csv and .tex, methods.bib, the figures and the site. The same records
    give the same bytes, and each file is replaced as a whole. If it is `public`, the verification
    level stands beside every rank. `release` is written on every page, and `source` is the address
    of the repository, to which the pages have links. Raises UserError if there is no store, if no
    store has a record, or if `out` cannot be written.
    """
    frame = load(*roots)
    counts = count(frame)
    # Failed and missing runs alone would give a leaderboard without any record.
    if not counts["done"] + counts["diverged"] + counts["skipped"]:
        where = ", ".join(repr(str(root)) for root in roots)
        have = "has" if len(roots) == 1 else "have"
        raise UserError(
            f"{where} {have} no records to show ({in_words(counts)}); run a sweep first"
        )
    _make_folder(out)
    stores = list(map(Store.read, all_stores(roots)))
    board = compute(frame, stores, public=public, release=release, source=source)
    with figures(board) as figures_of:
        site = build_site(board, out, figures=lambda track: figures_of(track).files)
        drawn = {track: figures_of(track) for track in board.tracks}
    left_out = (*site.left_out, *(line for each in drawn.values() for line in each.missing))
    tables, cited = [], keys_of(frame.runs)
    tex = [f"% {board.origin}", f"% needs the packages {', '.join(PACKAGES)}, and methods.bib"]
    page = ["# Leaderboard", "", f"{in_words(counts).capitalize()}.", ""]
    for track, own in board.tracks.items():
        tables.append(accuracy_table(track, own.cells))
        tex.append(latex(tables[-1], own.slug, cited))
        page += [f"## {format.markdown(f'{track.model} on {track.dataset}')}", ""]
        page += [markdown(tables[-1])]
        # Every figure has three formats; a Markdown page shows one of them.
        page += [f"{_picture(file)}\n" for file in drawn[track].files if file.endswith(".png")]
        if len(own.reproduction):
            page += [markdown(as_table(track, own.reproduction))]
    page += _section("Left out", left_out)
    page += ["## Data", "", f"{format.markdown(board.origin, 400)}.", ""]
    files = {
        "leaderboard.csv": csv(board.summary).encode(),
        "leaderboard.md": "\n".join(page).encode(),
        "leaderboard.tex": "\n".join(tex).encode(),
        "methods.bib": cite_runs(frame.runs).encode(),
    }
    paths = (*_write(out, files), *site.paths)
    return Built(paths, left_out, counts, tuple(tables))


def in_words(counts: dict[str, int]) -> str:
    """Return counts of runs in words, without those that are zero: "12 done, 1 failed"."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing"


def _picture(file: str) -> str:
    return f"![{file.partition('-')[0]}](figures/{file})"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    items = [f"- {format.markdown(line, 300)}" for line in lines[:_SHOWN]]
    more = [f"- and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"## {title}", "", *items, *more, ""] if lines else []


def _make_folder(out: Path) -> None:
    """Create the folder before anything is computed, so that an unwritable one fails at once."""
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

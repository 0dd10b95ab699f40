"""Figures for papers on the page of a track: what is shown, what it says, how it is had."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from paibench.leaderboard.site.board import clean

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

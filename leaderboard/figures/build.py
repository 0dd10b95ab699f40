"""All figures of one track as files, and the reason if one is missing."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from paibench.benchmark.spec import Named
from paibench.leaderboard.board import Board, TrackBoard
from paibench.leaderboard.figures.accuracy import MEANINGS, Measure, curve
from paibench.leaderboard.figures.cost import cost
from paibench.leaderboard.figures.distances import distances
from paibench.leaderboard.figures.layers import profiles
from paibench.leaderboard.figures.style import Drawn, line_styles, pdf, png, svg
from paibench.leaderboard.figures.trained import supermasks, trained
from paibench.leaderboard.figures.width import widths
from paibench.leaderboard.stats.ranking import median_density
from paibench.leaderboard.stats.summary import TRACK, Track, of_track

CURVES: dict[Measure, str] = {
    "accuracy": "accuracy",
    "accuracy_untrained": "untrained",
    "native_accuracy": "native",
}
_RUN_COLUMNS = [
    *(*TRACK, "method", "method_label", "control", "density_asked", "seed"),
    *("layer_names", "layer_sizes", "layer_kept", "mask_distances"),
]
FORMS = {"png": png, "svg": svg, "pdf": pdf}


class Figures(NamedTuple):
    """The files of figures by name, in every form, in the order in which they are shown."""

    files: dict[str, bytes]
    missing: list[str]
    """One line for each figure that has nothing to show."""


class Source(NamedTuple):
    """What the figures of one track are made from."""

    track_board: TrackBoard
    cells: pd.DataFrame
    """The cells of all tracks: a method has one style on all of them, a network several widths."""
    models: Mapping[str, Named]
    """The models of all tracks by their labels."""
    runs: pd.DataFrame
    """The runs of the track, with the columns that figures need."""


def source(board: Board, track: Track) -> Source:
    """Return what the figures of one track of a board are made from."""
    runs = of_track(board.frame.runs[_RUN_COLUMNS], track)
    return Source(board.tracks[track], board.cells, board.models, runs)


def draw(source: Source) -> Figures:
    """Return the figures of one track."""
    slug = source.track_board.slug
    files: dict[str, bytes] = {}
    missing = []
    for prefix, drawing in _drawn(source):
        if drawing.figure is not None:
            names = {form: f"{prefix}-{slug}.{form}" for form in FORMS}
            files |= {names[form]: save(drawing.figure) for form, save in FORMS.items()}
        elif drawing.reason:
            missing.append(f"a figure of {slug}: {drawing.reason}")
    return Figures(files, missing)


def _drawn(source: Source) -> Iterator[tuple[str, Drawn]]:
    """Yield each figure of a track with the first part of its file name."""
    track, cells, runs = source.track_board.track, source.track_board.cells, source.runs
    styles = line_styles(source.cells["method_label"])
    own = cells[cells["control"] == "none"]
    for measure, prefix in CURVES.items():
        if own[f"{measure}_n"].sum():
            published = source.track_board.figures
            yield prefix, Drawn(curve(track, cells, styles, measure, published))
        elif measure != "native_accuracy":  # only supermasks have one
            what = MEANINGS[measure].removesuffix(" (%)").lower()
            yield prefix, Drawn(None, f"no run gave an {what}")
    at = median_density(own)
    if at < 1:  # otherwise nothing is pruned
        yield "profiles", profiles(track, runs, styles, at)
        yield "cost", cost(track, cells, styles)
        drawing = widths(source.cells, track, source.models, styles, at)
        yield "widths", drawing._replace(reason="")  # most tracks have one width
        if supermasks(own).any():
            drawing = widths(source.cells, track, source.models, styles, at, "accuracy_untrained")
            yield "widths_untrained", drawing._replace(reason="")
            yield "trained", trained(track, cells, styles)
        yield "distances", distances(track, runs)

"""All figures of one track as files, and the reason if one is missing."""

from collections.abc import Iterator
from typing import NamedTuple

from paibench.leaderboard.board import Board, TrackBoard
from paibench.leaderboard.figures.accuracy import MEANINGS, Measure, curve
from paibench.leaderboard.figures.cost import cost
from paibench.leaderboard.figures.distances import distances
from paibench.leaderboard.figures.layers import profiles
from paibench.leaderboard.figures.style import Drawn, line_styles, pdf, png, svg
from paibench.leaderboard.figures.trained import supermasks, trained
from paibench.leaderboard.figures.width import widths
from paibench.leaderboard.stats.ranking import median_density

CURVES: dict[Measure, str] = {
    "accuracy": "accuracy",
    "accuracy_untrained": "untrained",
    "native_accuracy": "native",
}
FORMS = {"png": png, "svg": svg, "pdf": pdf}


class Figures(NamedTuple):
    """The files of figures by name, in every form, in the order in which they are shown."""

    files: dict[str, bytes]
    missing: list[str]
    """One line for each figure that has nothing to show."""


def figures(board: Board, own: TrackBoard) -> Figures:
    """Return the figures of one track of a board."""
    files: dict[str, bytes] = {}
    missing = []
    for prefix, drawing in _drawn(board, own):
        if drawing.figure is not None:
            names = {form: f"{prefix}-{own.slug}.{form}" for form in FORMS}
            files |= {names[form]: save(drawing.figure) for form, save in FORMS.items()}
        elif drawing.reason:
            missing.append(f"a figure of {own.slug}: {drawing.reason}")
    return Figures(files, missing)


def _drawn(board: Board, track_board: TrackBoard) -> Iterator[tuple[str, Drawn]]:
    """Yield each figure of a track with the first part of its file name."""
    track, cells, runs = track_board.track, track_board.cells, board.frame.runs
    styles = line_styles(board.cells["method_label"])
    own = cells[cells["control"] == "none"]
    for measure, prefix in CURVES.items():
        if own[f"{measure}_n"].sum():
            yield prefix, Drawn(curve(track, cells, styles, measure, track_board.figures))
        elif measure != "native_accuracy":  # only supermasks have one
            what = MEANINGS[measure].removesuffix(" (%)").lower()
            yield prefix, Drawn(None, f"no run gave an {what}")
    at = median_density(own)
    if at < 1:  # otherwise nothing is pruned
        yield "profiles", profiles(track, runs, styles, at)
        yield "cost", cost(track, cells, styles)
        drawing = widths(board.cells, track, board.models, styles, at)
        yield "widths", drawing._replace(reason="")  # most tracks have one width
        if supermasks(own).any():
            drawing = widths(board.cells, track, board.models, styles, at, "accuracy_untrained")
            yield "widths_untrained", drawing._replace(reason="")
            yield "trained", trained(track, cells, styles)
        yield "distances", distances(track, runs)

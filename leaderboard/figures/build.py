"""All figures of one track as files, and why one that is due is not there."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from paibench.leaderboard.figures.accuracy import MEANINGS, Measure, curve
from paibench.leaderboard.figures.cost import cost
from paibench.leaderboard.figures.layers import profiles
from paibench.leaderboard.figures.style import Drawn, line_styles, pdf, png, svg
from paibench.leaderboard.figures.trained import trained
from paibench.leaderboard.figures.width import widths
from paibench.leaderboard.frame.rows import models
from paibench.leaderboard.published.load import published_for
from paibench.leaderboard.stats.ranking import median_density
from paibench.leaderboard.stats.summary import Track, of_track

CURVES: dict[Measure, str] = {
    "accuracy": "accuracy",
    "accuracy_untrained": "untrained",
    "native_accuracy": "native",
}
FORMS = {"png": png, "svg": svg, "pdf": pdf}


class Figures(NamedTuple):
    """Figures by file name, each in every form, in the order in which they are shown."""

    files: dict[str, bytes]
    missing: list[str]
    """A line for each that is due and has nothing to show."""


def figures(
    name: str,
    track: Track,
    summary: pd.DataFrame,
    runs: pd.DataFrame,
    published: pd.DataFrame,
) -> Figures:
    """The figures of a track from the summary of all tracks and the frame of all runs.

    `name` is that of the track in file names; `published` is from `published.load`.
    """
    files: dict[str, bytes] = {}
    missing = []
    for prefix, drawn in _drawn(track, summary, runs, published):
        if drawn.figure is not None:
            files |= {f"{prefix}-{name}.{form}": save(drawn.figure) for form, save in FORMS.items()}
        elif drawn.reason:
            missing.append(f"a figure of {name}: {drawn.reason}")
    return Figures(files, missing)


def _drawn(
    track: Track, summary: pd.DataFrame, runs: pd.DataFrame, published: pd.DataFrame
) -> Iterator[tuple[str, Drawn]]:
    """Each figure of a track with the first part of its file's name."""
    styles = line_styles(summary["method_label"])
    cells = of_track(summary, track)
    own = cells[cells["control"] == "none"]
    theirs = published_for(track, models(runs)[track.model], cells, published)
    for measure, prefix in CURVES.items():
        if own[f"{measure}_n"].sum():
            yield prefix, Drawn(curve(track, cells, styles, measure, theirs))
        elif measure != "native_accuracy":  # which only supermasks have
            what = MEANINGS[measure].removesuffix(" (%)").lower()
            yield prefix, Drawn(None, f"no run gave an {what}")
    at = median_density(own)
    if at < 1:  # else nothing is pruned
        yield "profiles", profiles(track, runs, styles, at)
        yield "cost", cost(track, cells, styles)
        drawn = widths(summary, track, models(runs), styles, at)
        yield "widths", drawn._replace(reason="")  # most tracks have one width
        if own["native_accuracy_n"].sum() or (own["method"] == "edge_popup").any():
            yield "trained", trained(track, cells, styles)

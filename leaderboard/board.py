"""All that tables, figures, exports and the site show, computed once for all of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import pandas as pd

from paibench.benchmark.spec import Named
from paibench.benchmark.store.store import Store
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.citations import known_of
from paibench.leaderboard.frame.export import csv
from paibench.leaderboard.frame.known import Known
from paibench.leaderboard.frame.load import Frame
from paibench.leaderboard.frame.rows import models
from paibench.leaderboard.missing import missing_results
from paibench.leaderboard.published.compare import reproduction
from paibench.leaderboard.published.load import load, published_for
from paibench.leaderboard.site.slugs import method_slugs
from paibench.leaderboard.stats.controls import control_verdicts
from paibench.leaderboard.stats.critical_sparsity import critical_sparsity
from paibench.leaderboard.stats.cross_track import CrossTrackComparison, cross_track
from paibench.leaderboard.stats.disagreement import disagreement
from paibench.leaderboard.stats.floors import FLOORS, endpoint_means, verdicts
from paibench.leaderboard.stats.pareto import pareto_by_track
from paibench.leaderboard.stats.rank_set import RANKS, rank_set
from paibench.leaderboard.stats.ranking import supermasks
from paibench.leaderboard.stats.summary import (
    CELL,
    OUTCOMES,
    TRACK,
    Track,
    ended,
    summarize,
    tracks,
)
from paibench.leaderboard.submission.verification_level import (
    add_marks,
    cell_levels,
    read_levels,
)

_COSTS = (
    *("search_epochs", "search_seconds", "peak_memory_mb", "accuracy_best"),
    *("multiply_adds_dense", "multiply_adds_sparse"),
)
_COMMITS = 5  # that are named; a large board has records of many
_VERDICT = [
    *(f"{floor}{name}" for floor in FLOORS.values() for name in ("n", "difference", "low", "high")),
    *("p", "outcome"),
]


@dataclass(frozen=True)
class TrackBoard:
    """What is shown of one track."""

    track: Track
    model: Named
    cells: pd.DataFrame
    """The rows of `Board.cells` of this track."""
    figures: pd.DataFrame
    """The published figures to draw beside ours, see `published_for`."""
    reproduction: pd.DataFrame
    """The published figures beside the cell of ours at the nearest density."""

    @property
    def slug(self) -> str:
        """See `Track.slug`."""
        return self.track.slug


@dataclass(frozen=True)
class Board:
    """Everything that a leaderboard shows, from the records of one or more stores."""

    frame: Frame
    """The runs in the order of their keys, with the column `mark`, and the files not read."""
    stores: tuple[Store, ...]
    public: bool
    """Whether the verification level stands beside every rank."""
    summary: pd.DataFrame
    """See `summarize`."""
    cells: pd.DataFrame
    """`summary` with more columns: costs (`_n`, `_mean`), `best` for Pareto-optimal cells, `mark`,
    those of `floors.verdicts` on the differences from both random floors, those of `rank_set`."""
    tracks: Mapping[Track, TrackBoard]
    methods: Mapping[str, str]
    """The part of file names that stands for each method."""
    known: Mapping[str, Known | None]
    """What is known of each method by its label; None for a third party's."""
    models: Mapping[str, Named]
    """The models of all runs by their labels."""
    rows: Mapping[tuple[Any, ...], dict[Any, Any]]
    """Endpoint, verdict, ranks, critical sparsity and area of each row, see `_rows`, by track,
    method label and control."""
    control_verdicts: pd.DataFrame
    disagreement: pd.DataFrame
    supermasks: pd.DataFrame
    cross_track: CrossTrackComparison
    left_out: tuple[str, ...]
    """One line for each reason why a result is not shown."""
    release: str | None = None
    """The name of the release, if the board is one."""
    source: str | None = None
    """The address of the repository, to which the pages of the site have links."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of runs of each outcome, and of files that cannot be read."""
        return count(self.frame)

    @cached_property
    def cells_csv(self) -> bytes:
        """`cells` as a CSV file."""
        return csv(self.cells).encode()

    @cached_property
    def origin(self) -> str:
        """What the board is made of, in one line: records, days, commits, a digest of the cells."""
        runs = self.frame.runs
        days = runs["finished"].dropna().astype("str").str[:10]
        dates = f"{days.min()} to {days.max()}" if days.nunique() > 1 else days.max()
        commits = sorted(runs["commit"].dropna().str[:8].unique())
        more = f" and {len(commits) - _COMMITS} more" if len(commits) > _COMMITS else ""
        parts = [
            *([f"release {self.release}"] if self.release else []),
            f"paibench {version('paibench')}",
            f"{len(days):,} records of {dates}" if len(days) else "no dated records",
            *([f"made at {', '.join(commits[:_COMMITS])}{more}"] if commits else []),
            f"sha256 of data/cells.csv {sha256(self.cells_csv).hexdigest()[:16]}",
        ]
        return clean("; ".join(parts))


def count(frame: Frame) -> dict[str, int]:
    """Return how many runs of a frame have each outcome, and how many files cannot be read."""
    outcomes = Counter(frame.runs["status"])
    return {outcome: outcomes[outcome] for outcome in OUTCOMES} | {
        "unreadable": len(frame.problems)
    }


def compute(
    frame: Frame,
    stores: Sequence[Store] = (),
    *,
    levels: Mapping[str, str] | None = None,
    public: bool = False,
    release: str | None = None,
    source: str | None = None,
) -> Board:
    """Return the board of a frame of runs.

    `stores` have the marks, the accuracies by epoch and the masks of the runs. `levels` replaces
    the verification levels that the stores have, by key. See `Board` for the others.
    """
    if levels is None:
        levels = {key: level for store in stores for key, level in read_levels(store).items()}
    # Sums of floats depend on the order, so it must not depend on which store a run is in.
    runs = frame.runs.sort_values("key", kind="stable", ignore_index=True)
    frame = Frame(add_marks(runs, levels), tuple(sorted(frame.problems)))
    summary = summarize(runs)
    named = models(runs)
    endpoints, verdict_cells = verdicts(runs)
    ranks, rank_cells = rank_set(runs)
    cells = _cells(summary, runs, levels, verdict_cells, rank_cells, public)
    rows = _rows(runs, endpoints, ranks)
    return Board(
        frame=frame,
        stores=tuple(stores),
        public=public,
        summary=summary,
        cells=cells,
        tracks=_tracks(cells, named),
        known={label: found for label, (_, found) in known_of(runs).items()},
        methods=method_slugs(runs["method"].astype(str)),
        models=named,
        rows=rows,
        control_verdicts=control_verdicts(runs),
        disagreement=disagreement(runs, verdict_cells, stores),
        supermasks=supermasks(runs),
        cross_track=cross_track(runs),
        left_out=tuple(missing_results(frame)),
        release=release,
        source=source,
    )


def _cells(
    summary: pd.DataFrame,
    runs: pd.DataFrame,
    levels: Mapping[str, str],
    verdict_cells: pd.DataFrame,
    ranks: pd.DataFrame,
    public: bool,
) -> pd.DataFrame:
    """Return the summary with costs, differences from the floors, ranks, marks, the Pareto set."""
    # Left joins keep the cells that have no verdict, no rank or no cost.
    cells = summary.merge(_costs(runs), on=CELL, how="left")
    cells = cells.merge(verdict_cells[[*CELL, *_VERDICT]], on=CELL, how="left")
    cells = cells.merge(ranks[[*CELL, *RANKS]], on=CELL, how="left")
    cells = cells.merge(cell_levels(runs, levels).reset_index(), on=CELL, how="left")
    # On a public board nobody reads a rank without how far it was checked.
    cells["rank_mark"] = cells["mark"] if public else ""
    cells["best"] = pareto_by_track(cells)
    return cells


def _rows(
    runs: pd.DataFrame, endpoints: pd.DataFrame, ranks: pd.DataFrame
) -> dict[tuple[Any, ...], dict[Any, Any]]:
    """Return one dictionary per row of a track: endpoint, verdict, ranks, critical sparsity, area.

    Its keys are the columns of `critical_sparsity`, `RANKS`, and with the prefix `endpoint_` those
    of `endpoint_means`, and `p` and `outcome` of the verdict.
    """
    by = [*TRACK, "method_label", "control"]
    means = endpoint_means(runs).merge(endpoints[[*by, "p", "outcome"]], on=by, how="left")
    means = means.drop(columns="method").rename(
        columns={name: f"endpoint_{name}" for name in means.columns if name not in by}
    )
    rows = critical_sparsity(runs).merge(means, on=by, how="left")
    rows = rows.merge(ranks[[*by, *RANKS]], on=by, how="left")
    return {tuple(row[name] for name in by): row for row in rows.to_dict("records")}


def _costs(runs: pd.DataFrame) -> pd.DataFrame:
    # Average the same runs as the accuracies beside these costs.
    values = runs[[*CELL]].assign(
        **{name: runs[name].astype("float64").where(ended(runs)) for name in _COSTS}
    )
    costs = values.groupby(CELL)[[*_COSTS]].agg(["count", "mean"])
    # Aggregation gives pairs of names, but the columns of cells have single names.
    costs.columns = ["_".join(name).replace("_count", "_n") for name in costs.columns.to_list()]
    return costs.reset_index()


def _tracks(cells: pd.DataFrame, named: Mapping[str, Named]) -> dict[Track, TrackBoard]:
    published = load()
    return {
        track: TrackBoard(
            track=track,
            model=named[track.model],
            cells=own,
            figures=published_for(track, named[track.model], own, published),
            reproduction=reproduction(track, named[track.model], own, published),
        )
        for track, own in tracks(cells)
    }

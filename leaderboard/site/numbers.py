"""The statistics that the site shows, each asked for here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from paibench.leaderboard.figures.cost import pareto
from paibench.leaderboard.stats.controls import control_verdicts
from paibench.leaderboard.stats.critical_sparsity import critical_sparsity
from paibench.leaderboard.stats.cross_track import CrossTrackComparison, cross_track
from paibench.leaderboard.stats.paired import against_random
from paibench.leaderboard.stats.ranking import rank_groups, row_class, supermasks
from paibench.leaderboard.stats.summary import CELL, TRACK, summarize
from paibench.leaderboard.submission import verification_level as given

_COSTS = (
    *("search_epochs", "search_seconds", "peak_memory_mb", "accuracy_best"),
    *("multiply_adds_dense", "multiply_adds_sparse"),
)
_PAIR = ["n", "difference", "half", "p_holm", "verdict"]


@dataclass(frozen=True)
class Numbers:
    """All numbers of a frame."""

    cells: pd.DataFrame
    """`summarize`, and per cell: costs (`_n`, `_mean`), rank `group`, `best` where no cell beats it
    in accuracy, sparsity and cost, `pair_` differences from random, `mark`."""
    rows: dict[tuple[Any, ...], dict[Any, Any]]
    """Per track, method label and control: critical density and area, see `critical`."""
    control_verdicts: pd.DataFrame
    supermasks: pd.DataFrame
    cross_track: CrossTrackComparison


def numbers(runs: pd.DataFrame, marks: Mapping[str, str], public: bool = False) -> Numbers:
    """The numbers of a frame of runs, each computed once for all pages.

    With `public` only cells of verified runs hold places 1 to 3.
    """
    cells = summarize(runs)
    over_all = cross_track(cells)
    summed = critical_sparsity(cells)
    row = [*TRACK, "method_label", "control"]
    rows = {tuple(each[name] for name in row): each for each in summed.to_dict("records")}
    pairs = against_random(runs)[[*CELL, *_PAIR]]
    pairs = pairs.rename(columns={name: f"pair_{name}" for name in _PAIR})
    wide = cells.merge(_costs(runs), on=CELL, how="left").merge(pairs, on=CELL, how="left")
    wide = wide.merge(given.cell_levels(runs, marks).reset_index(), on=CELL, how="left")
    leads = given.may_lead(runs, marks).reset_index()
    may_lead = wide[CELL].merge(leads, on=CELL, how="left")["may_lead"]
    wide["group"] = rank_groups(wide, may_lead if public else None)
    wide["best"] = _best(wide)
    return Numbers(wide, rows, control_verdicts(runs), supermasks(runs), over_all)


def _best(cells: pd.DataFrame) -> pd.Series:
    """The cells at initialization that none of their track beats; see `pareto`."""
    floor = (cells["method_label"] == "random") & (cells["control"] == "none")
    own = cells[((row_class(cells) == "at initialization") | floor) & (cells["density_asked"] < 1)]
    found = [pareto(part) for _, part in own.groupby(TRACK)]
    best = pd.concat(found) if found else pd.Series(dtype="bool")
    return best.reindex(cells.index, fill_value=False).astype("bool")


def _costs(runs: pd.DataFrame) -> pd.DataFrame:
    ended = runs["status"].isin(["done", "diverged"])
    values = runs[[*CELL]].assign(
        **{name: runs[name].astype("float64").where(ended) for name in _COSTS}
    )
    found = values.groupby(CELL)[[*_COSTS]].agg(["count", "mean"])
    found.columns = ["_".join(name).replace("_count", "_n") for name in found.columns.to_list()]
    return found.reset_index()

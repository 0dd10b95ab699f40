"""The statistics that the site shows, each asked for here and nowhere else."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from paibench.leaderboard.across import Across, across
from paibench.leaderboard.critical import critical
from paibench.leaderboard.groups import classes, rank_groups, supermasks
from paibench.leaderboard.paired import against_random
from paibench.leaderboard.summary import CELL, TRACK, summarize
from paibench.leaderboard.tradeoffs import pareto
from paibench.leaderboard.verdicts import controls

MARKS = ("self-reported", "checked", "verified")
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
    controls: pd.DataFrame
    supermasks: pd.DataFrame
    across: Across
    marked: bool
    """Whether the runs say how far they were checked, so that places 1 to 3 are for verified."""


def numbers(runs: pd.DataFrame) -> Numbers:
    """The numbers of a frame of runs, each computed once for all pages."""
    cells = summarize(runs)
    over_all = across(cells)
    summed = critical(cells)
    row = [*TRACK, "method_label", "control"]
    rows = {tuple(each[name] for name in row): each for each in summed.to_dict("records")}
    pairs = against_random(runs)[[*CELL, *_PAIR]]
    pairs = pairs.rename(columns={name: f"pair_{name}" for name in _PAIR})
    wide = cells.merge(_costs(runs), on=CELL, how="left").merge(pairs, on=CELL, how="left")
    marked = "mark" in runs
    wide["mark"] = _marks(runs, wide) if marked else MARKS[0]
    wide["group"] = rank_groups(wide, wide["mark"] == MARKS[-1] if marked else None)
    wide["best"] = _best(wide)
    return Numbers(wide, rows, controls(runs), supermasks(runs), over_all, marked)


def _best(cells: pd.DataFrame) -> pd.Series:
    """The cells at initialization that none of their track beats; see `pareto`."""
    floor = (cells["method_label"] == "random") & (cells["control"] == "none")
    own = cells[((classes(cells) == "at initialization") | floor) & (cells["density_asked"] < 1)]
    found = [pareto(part) for _, part in own.groupby(TRACK)]
    best = pd.concat(found) if found else pd.Series(dtype="bool")
    return best.reindex(cells.index, fill_value=False).astype("bool")


def _marks(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.Series:
    """How far the runs of each cell were checked: as little as the least checked of them."""
    level = runs["mark"].map({name: place for place, name in enumerate(MARKS)}).fillna(0)
    least = level.groupby([runs[name] for name in CELL]).min().rename("mark").reset_index()
    found = cells[CELL].merge(least, on=CELL, how="left")["mark"].fillna(0)
    return found.map(dict(enumerate(MARKS))).set_axis(cells.index)


def _costs(runs: pd.DataFrame) -> pd.DataFrame:
    ended = runs["status"].isin(["done", "diverged"])
    values = runs[[*CELL]].assign(
        **{name: runs[name].astype("float64").where(ended) for name in _COSTS}
    )
    found = values.groupby(CELL)[[*_COSTS]].agg(["count", "mean"])
    found.columns = ["_".join(name).replace("_count", "_n") for name in found.columns.to_list()]
    return found.reset_index()

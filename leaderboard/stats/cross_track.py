"""Methods compared across data sets, models and densities: mean ranks, tests and wins."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from paibench.leaderboard.format import sparsity_percent
from paibench.leaderboard.stats.paired import ALPHA
from paibench.leaderboard.stats.ranking import incomplete, row_class
from paibench.leaderboard.stats.summary import TRACK

BLOCK = [*TRACK, "density_asked"]
_DIGITS = 12  # means that agree in these digits are ties: the rest is rounding
_SHOWN = 20


@dataclass(frozen=True)
class CrossTrackComparison:
    """The result of `cross_track`. Methods are named by their labels."""

    blocks: pd.DataFrame
    """Mean accuracies without gaps: a row per track and density (`BLOCK`), a column per method."""
    n: int
    """The least number of runs behind a mean."""
    mean_rank: pd.Series
    """The mean rank over the blocks, 1 is best, in rising order."""
    friedman_p: float
    """p of the Friedman test that all methods are equal; NaN if there is a `reason`."""
    critical_difference: float
    """Mean ranks that differ by more differ significantly (Nemenyi, 0.05).

    NaN if there is a `reason`.
    """
    cliques: tuple[tuple[str, ...], ...]
    """The largest sets of two or more methods whose mean ranks do not differ significantly."""
    wins: pd.DataFrame
    """The number of blocks in which the mean of the row is above that of the column."""
    ties: pd.DataFrame
    """The number of blocks in which the two are equal."""
    left_out: tuple[str, ...]
    """One line for each group of cells that is in no block, with the reason. Not yet escaped."""
    reason: str
    """Why there is no test; "" if there is one."""

    @property
    def win_fraction(self) -> pd.DataFrame:
        """`wins` as a fraction of the blocks, with ties as half; NaN on the diagonal."""
        total = max(len(self.blocks), 1)
        fraction = ((self.wins + self.ties / 2) / total).to_numpy(copy=True)
        np.fill_diagonal(fraction, np.nan)
        return pd.DataFrame(fraction, index=self.wins.index, columns=self.wins.columns)


def cross_track(summary: pd.DataFrame) -> CrossTrackComparison:
    """Rank methods over the blocks in which all of them have a complete cell (Demsar 2006).

    A block is a track and a density, with the methods at initialization and `random`. Nothing is
    imputed: `complete` chooses methods and blocks so that no cell is missing.
    """
    left_out: list[str] = []
    candidates = _candidates(summary, left_out)
    blocks = _complete(candidates, left_out)
    ranks = ranks_of(blocks)
    # A stable sort keeps ties in one order, so that equal records give equal pages.
    rising = ranks.mean().sort_values(kind="stable")
    blocks = blocks[list(rising.index)]
    count, size = len(rising), len(blocks)
    reason = _reason(count, size, blocks)
    cd = np.nan if reason else critical_difference(count, size)
    wins, ties = _matches(blocks)
    counts = candidates.pivot(index=BLOCK, columns="method_label", values="accuracy_n")
    used = counts.loc[blocks.index, list(blocks.columns)].to_numpy()
    return CrossTrackComparison(
        blocks=blocks,
        n=int(used.min()) if used.size else 0,
        mean_rank=rising,
        friedman_p=np.nan if reason else friedman(blocks),
        critical_difference=cd,
        cliques=() if reason else tuple(cliques(rising, cd)),
        wins=wins,
        ties=ties,
        left_out=tuple(left_out),
        reason=reason,
    )


def ranks_of(blocks: pd.DataFrame) -> pd.DataFrame:
    """Return the rank of each method in each block: 1 is best, ties share the mean rank."""
    ranks: pd.DataFrame = blocks.round(_DIGITS).rank(axis=1, ascending=False, method="average")
    return ranks


def friedman(blocks: pd.DataFrame) -> float:
    """Return p of the Friedman test, corrected for ties."""
    # Rounded like the ranks, so that the test sees the same ties.
    return float(stats.friedmanchisquare(*blocks.round(_DIGITS).to_numpy().T).pvalue)


def critical_difference(methods: int, blocks: int) -> float:
    """Return the difference of two mean ranks that is significant in Nemenyi's test at 0.05.

    It is the quantile of the studentized range over sqrt(2), times sqrt(k (k + 1) / (6 N)).
    """
    # Nemenyi's test has infinitely many degrees of freedom, as the table of Demsar.
    q = float(stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def cliques(mean_rank: pd.Series, difference: float) -> Iterator[tuple[str, ...]]:
    """Yield the sets of methods, in order of rank, that differ by less; none is part of another."""
    ranks, names = mean_rank.tolist(), list(mean_rank.index)
    reached = 0
    for first, rank in enumerate(ranks):
        end = sum(other - rank < difference for other in ranks)
        # A set that reaches no further is part of the one before.
        if end > reached and end - first > 1:
            yield tuple(names[first:end])
        reached = max(reached, end)


def complete(whole: pd.DataFrame) -> tuple[list[str], pd.Index]:
    """Return methods (columns) and blocks (rows) of a table of booleans so that all are true.

    Take the first k methods in the order of how many blocks they have, with the blocks that all of
    them have. The k that gives most cells is chosen, if possible with three methods or more in two
    blocks or more, since a test needs as many.
    """
    order = whole.sum().sort_values(ascending=False, kind="stable").index
    # The product along a row is 1 as long as the block has all methods so far.
    shared = np.cumprod(whole[order].to_numpy(dtype="int64"), axis=1).sum(axis=0)
    best, chosen = (False, False, 0, 0), 0
    for k, blocks in enumerate(shared.tolist(), start=1):
        worth = (k >= 3 and blocks >= 2, k >= 2 and blocks >= 1, k * blocks, k)
        if blocks and worth > best:
            best, chosen = worth, k
    methods = list(order[:chosen])
    return methods, whole.index[whole[methods].all(axis=1)] if methods else whole.index[:0]


def _candidates(summary: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """Return the cells that can be in a block, complete or not."""
    pruned = summary[(summary["density_asked"] < 1) & (summary["method"] != "dense")]
    own = pruned[pruned["control"] == "none"]
    late = row_class(own) == "not at initialization"
    for name, rewound in own[late].groupby("method_label"):
        left_out.append(f"{name}: weights not at initialization in {_tracks(rewound)}")
    cells: pd.DataFrame = own[~late]
    # Accuracies of different protocols cannot be compared.
    newest = cells["protocol"] == cells["protocol"].max()
    if not newest.all():
        left_out.append(f"{_tracks(cells[~newest])} of an older protocol")
    cells = cells[newest]
    # Test and validation accuracies are measured on different examples.
    tested = cells["split"].str.startswith("test")
    if tested.any() and not tested.all():
        left_out.append(f"{_tracks(cells[~tested])} that was not evaluated on a test split")
        cells = cells[tested]
    return cells


def _complete(cells: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """Return the blocks of the chosen methods; add those not chosen to `left_out`."""
    full = cells[~incomplete(cells) & (cells["accuracy_n"] > 0)]
    table = full.pivot(index=BLOCK, columns="method_label", values="accuracy_mean")
    everything = pd.MultiIndex.from_frame(cells[BLOCK].drop_duplicates().sort_values(BLOCK))
    # Blocks and methods without any complete cell are reported too.
    table = table.reindex(index=everything, columns=sorted(cells["method_label"].unique()))
    methods, blocks = complete(table.notna())
    for name in table.columns.difference(methods):
        count = int(table[name].notna().sum())
        left_out.append(f"{name}: has all its runs in {count} of {len(table)} blocks")
    lost = table.index.difference(blocks)
    for block in lost[:_SHOWN]:
        gaps = [name for name in methods if pd.isna(table.loc[block, name])]
        where = dict(zip(BLOCK, block, strict=True))
        at = sparsity_percent(where["density_asked"])
        left_out.append(
            f"{where['model']} on {where['dataset']} at a sparsity of {at}: "
            f"no complete cell of {', '.join(gaps)}"
        )
    if len(lost) > _SHOWN:
        left_out.append(f"and {len(lost) - _SHOWN} more blocks")
    chosen: pd.DataFrame = table.loc[blocks, methods]
    return chosen


def _matches(blocks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    values = blocks.round(_DIGITS).to_numpy()
    names = blocks.columns
    above = [(own[:, None] > values).sum(axis=0) for own in values.T]
    equal = [(own[:, None] == values).sum(axis=0) for own in values.T]
    shape = (len(names), len(names))
    wins = pd.DataFrame(np.reshape(above, shape), index=names, columns=names, dtype="int64")
    ties = pd.DataFrame(np.reshape(equal, shape), index=names, columns=names, dtype="int64")
    return wins, ties


def _reason(methods: int, size: int, blocks: pd.DataFrame) -> str:
    if methods < 3 or size < 2:
        return f"a test needs three methods in two blocks; there are {methods} in {size}"
    # The Friedman statistic is 0 / 0 if all ranks are equal.
    if (blocks.round(_DIGITS).nunique(axis=1) == 1).all():
        return "all methods are equal in all blocks"
    return ""


def _tracks(cells: pd.DataFrame) -> str:
    count = len(cells[TRACK].drop_duplicates())
    return f"{count} track{'' if count == 1 else 's'}"

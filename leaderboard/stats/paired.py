"""Accuracy minus that of the random floors, in pairs of equal seed, with tests and verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from paibench.leaderboard.stats.summary import CELL, ROUNDING, TRACK, ended, half_width

ALPHA = 0.05
FEWEST = 3  # fewer pairs get no verdict
FLOORS = {"random": "", "random(layers=erk)": "erk_"}
"""The method labels of the random floors, and the prefixes of their columns.

With quotas after Erdos-Renyi, random masks are much better than without at low densities, so that
a claim to beat random pruning must hold against both.
"""
VERDICTS = {
    "better": "beats both random floors",
    "worse": "worse than a random floor",
    "plain only": "beats random, but is not shown to beat random with ERK quotas",
    "quotas only": "beats random with ERK quotas, but is not shown to beat random",
    "no second floor": "beats random; not compared with random with ERK quotas",
    "floor": "beats random, and is the other floor",
    "not significant": "no significant difference from random",
    "too few seeds": "too few seeds",
}

FAMILY = (*TRACK, "density_asked")
"""The tests of cells with equal values here are corrected together, as one column of a table."""
_STATISTICS = ["n", "lost", "difference", "half", "p", "p_holm"]


def against_random(runs: pd.DataFrame, family: Sequence[str] = FAMILY) -> pd.DataFrame:
    """Compare each method with the random floors at equal track, density and seed: a row per cell.

    Leaves out controls, dense, `random` itself, cells at density 1, and cells without a pair.
    Columns: those of `CELL`; `n`, the number of pairs with `random`; `lost`, the runs without such
    a pair; `difference`, the mean of accuracy minus that of random, and `half`, half the width of
    its 95 % t interval, as fractions; `p` of the two-sided paired t test; `p_holm`, corrected over
    all cells with equal `family`; the same with the prefix `erk_` for `random(layers=erk)`, which
    is not compared with itself; and `verdict`, one of the values of `VERDICTS`.
    """
    own = own_cells(runs)
    pair = [*TRACK, "density_asked", "seed"]
    cells = runs.loc[own, CELL].drop_duplicates().sort_values(CELL)
    for label, prefix in FLOORS.items():
        floor = own & (runs["method_label"] == label)
        # Random with other options is compared with both floors, as any method is.
        compared = compare(
            runs[own & ~floor & (runs["method_label"] != "random")], runs[floor], pair
        )
        compared["p_holm"] = holm(compared["p"], compared.groupby(list(family)).ngroup())
        cells = cells.merge(
            compared.rename(columns={c: prefix + c for c in _STATISTICS}), how="left"
        )
    counts = [f"{prefix}{name}" for prefix in FLOORS.values() for name in ("n", "lost")]
    cells[counts] = cells[counts].fillna(0).astype("int64")
    cells = cells[(cells["n"] > 0) | (cells["erk_n"] > 0)].reset_index(drop=True)
    cells["verdict"] = _verdicts(cells).map(VERDICTS).astype("str")
    return cells


def _verdicts(cells: pd.DataFrame) -> pd.Series:
    """Return the key of `VERDICTS` of each row: it beats random only if it beats both floors."""
    plain = outcomes(cells)
    quotas = outcomes(cells[[f"erk_{name}" for name in _STATISTICS]].set_axis(_STATISTICS, axis=1))
    is_floor = cells["method_label"].isin(list(FLOORS))
    alone = cells["erk_n"] == 0
    keys = np.select(
        [
            (plain == "worse") | (quotas == "worse"),
            is_floor & (plain == "better"),
            alone & (plain == "better"),
            (plain == "better") & (quotas == "better"),
            (plain == "too few seeds") | (~alone & (quotas == "too few seeds")),
            plain == "better",
            quotas == "better",
        ],
        [
            *("worse", "floor", "no second floor", "better", "too few seeds"),
            *("plain only", "quotas only"),
        ],
        "not significant",
    )
    return pd.Series(keys, index=cells.index, dtype="str")


def own_cells(runs: pd.DataFrame) -> pd.Series:
    """Return which runs are of a pruning method itself: no control, not dense, density below 1."""
    own: pd.Series = (runs["control"] == "none") & (runs["method"] != "dense")
    return own & (runs["density_asked"] < 1)


def compare(
    runs: pd.DataFrame, partners: pd.DataFrame, pair: list[str], sign: int = 1
) -> pd.DataFrame:
    """Compare each cell of `runs` with the partners that have equal values in the columns `pair`.

    Columns: those of `CELL`, `n`, `lost`, `difference`, `half`, `p`, see `against_random`. The
    difference is that of the run minus that of its partner, times `sign`. Raises MergeError if a
    run has two partners.
    """
    # Runs without a partner stay, to be counted as lost; two partners would count a run twice.
    pairs = _measured(runs, CELL + ["seed"]).merge(
        _measured(partners, pair),
        on=pair,
        how="left",
        suffixes=("", "_of_partner"),
        validate="many_to_one",
    )
    pairs["difference"] = sign * (pairs["accuracy"] - pairs["accuracy_of_partner"])
    cells = pairs.groupby(CELL)["difference"].agg(["size", "count", "mean", "std"])
    cells = cells[cells["count"] > 0]
    statistics = pd.DataFrame(
        {
            "n": cells["count"].astype("int64"),
            "lost": (cells["size"] - cells["count"]).astype("int64"),
            "difference": cells["mean"],
            "half": half_width(cells["std"], cells["count"]),
            "p": p_of_t(cells["mean"], cells["std"], cells["count"]),
        }
    )
    return statistics.reset_index()


def p_of_t(mean: pd.Series, std: pd.Series, n: pd.Series) -> pd.Series:
    """Return p of the two-sided t test of a mean difference against 0; NaN for n < 2.

    If all differences are equal, there is no t, and p is that of the exact sign test: 2 / 2^n, or 1
    if all are 0. Accuracies move in steps of one test example, so three equal differences are weak
    evidence, which a t test with a deviation near 0 would call overwhelming.
    """
    t = mean / (std.where(std > ROUNDING) / np.sqrt(n))
    p = pd.Series(2 * stats.t.sf(t.abs(), (n - 1).where(n > 1)), index=n.index)
    equal = (n > 1) & (std <= ROUNDING)
    signs = (2.0 ** (1 - n)).where(mean.abs() > ROUNDING, 1.0)
    return p.mask(equal, signs)


def holm(p: pd.Series, family: pd.Series) -> pd.Series:
    """Return p values after Holm's step-down correction within each family; NaN does not count.

    Holm 1979, Scandinavian Journal of Statistics 6.
    """
    rising = p.dropna().sort_values(kind="stable")
    which = family.loc[rising.index]
    ordered = rising.groupby(which)
    scaled = rising * (ordered.transform("size") - ordered.cumcount())
    # Holm's test stops at the first p that is too large, so corrected values never fall.
    corrected: pd.Series = scaled.groupby(which).cummax().clip(upper=1.0)
    return corrected.reindex(p.index)


def outcomes(cells: pd.DataFrame) -> pd.Series:
    """Return whether each row is "better", "worse", "not significant" or has "too few seeds".

    This takes `n`, `difference` and `p_holm` of one comparison.
    """
    significant = cells["p_holm"] <= ALPHA
    keys = np.select(
        [cells["n"] < FEWEST, significant & (cells["difference"] > 0), significant],
        ["too few seeds", "better", "worse"],
        "not significant",
    )
    return pd.Series(keys, index=cells.index, dtype="str")


def _measured(runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return these columns and the accuracy, which only runs that ended have."""
    return runs[columns].assign(accuracy=runs["accuracy"].where(ended(runs)))

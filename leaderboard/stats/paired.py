"""What a method gains over random pruning: in pairs of equal seed, tested, and said in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from paibench.leaderboard.stats.summary import CELL, TRACK, half_width

ALPHA = 0.05
FEWEST = 3  # pairs behind a verdict
VERDICTS = {
    "better": "beats random",
    "worse": "worse than random",
    "not told apart": "not told from random",
    "too few seeds": "too few seeds",
}
_EQUAL = 1e-12  # below any step of an accuracy: differences of floats that should be equal


FAMILY = (*TRACK, "density_asked")
"""What the cells that are corrected together have in common: a reader asks at one sparsity."""


def against_random(runs: pd.DataFrame, family: Sequence[str] = FAMILY) -> pd.DataFrame:
    """Accuracy minus that of `random` at equal track, density and seed: a row per cell with a pair.

    Of the methods' own cells: no control, not dense, not the floor itself, something pruned.
    Columns: those of `CELL`; `n` pairs; `lost`, runs asked for without a pair; `difference`,
    their mean, and `half`, half the width of its 95 % t interval, as fractions; `p` of the
    two-sided paired t test; `p_holm`, corrected over all cells that are equal in `family`, those
    of a track at one density; `verdict`, one of the words of `VERDICTS`.
    """
    own = own_cells(runs)
    floor = own & (runs["method_label"] == "random")
    pair = [*TRACK, "density_asked", "seed"]
    found = compare(runs[own & ~floor], runs[floor], pair)
    found["p_holm"] = holm(found["p"], found.groupby(list(family)).ngroup())
    found["verdict"] = outcomes(found).map(VERDICTS).astype("str")
    return found


def own_cells(runs: pd.DataFrame) -> pd.Series:
    """Which runs are of a method itself, not of a control of it, with something pruned."""
    own: pd.Series = (runs["control"] == "none") & (runs["method"] != "dense")
    return own & (runs["density_asked"] < 1)


def compare(
    runs: pd.DataFrame, partners: pd.DataFrame, pair: list[str], sign: int = 1
) -> pd.DataFrame:
    """Per cell of `runs`: accuracy minus that of the partner that is equal in `pair`.

    Columns: those of `CELL`, `n`, `lost`, `difference`, `half`, `p`; see `against_random`. `sign`
    -1 turns the difference round. Raises MergeError where a run has two partners.
    """
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
    found = pd.DataFrame(
        {
            "n": cells["count"].astype("int64"),
            "lost": (cells["size"] - cells["count"]).astype("int64"),
            "difference": cells["mean"],
            "half": half_width(cells["std"], cells["count"]),
            "p": p_of_t(cells["mean"], cells["std"], cells["count"]),
        }
    )
    return found.reset_index()


def p_of_t(mean: pd.Series, std: pd.Series, n: pd.Series) -> pd.Series:
    """The p of the two-sided t test that differences of this mean, deviation and number are of 0.

    Not a number for n < 2. Where all differences are equal there is no t; the p is that of the
    exact sign test, 2 / 2^n, and 1 where all are 0: three seeds that agree by the width of a test
    example are no proof.
    """
    t = mean / (std.where(std > _EQUAL) / np.sqrt(n))
    p = pd.Series(2 * stats.t.sf(t.abs(), (n - 1).where(n > 1)), index=n.index)
    alike = (n > 1) & (std <= _EQUAL)
    signs = (2.0 ** (1 - n)).where(mean.abs() > _EQUAL, 1.0)
    return p.mask(alike, signs)


def holm(p: pd.Series, family: pd.Series) -> pd.Series:
    """Holm's step-down correction of p values within each family; those without a p do not count.

    Holm 1979, Scandinavian Journal of Statistics 6.
    """
    rising = p.dropna().sort_values(kind="stable")
    which = family.loc[rising.index]
    ordered = rising.groupby(which)
    scaled = rising * (ordered.transform("size") - ordered.cumcount())
    corrected: pd.Series = scaled.groupby(which).cummax().clip(upper=1.0)
    return corrected.reindex(p.index)


def outcomes(found: pd.DataFrame) -> pd.Series:
    """The key of `VERDICTS` of each row: by `n`, the sign of `difference`, and `p_holm`."""
    told = found["p_holm"] <= ALPHA
    said = np.select(
        [found["n"] < FEWEST, told & (found["difference"] > 0), told],
        ["too few seeds", "better", "worse"],
        "not told apart",
    )
    return pd.Series(said, index=found.index, dtype="str")


def _measured(runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """These columns and the accuracy, of runs that ended and nothing else."""
    ended = runs["status"].isin(["done", "diverged"])
    return runs[columns].assign(accuracy=runs["accuracy"].where(ended))

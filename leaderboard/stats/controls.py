"""Each method compared with its own controls, with a verdict in words."""

import pandas as pd

from paibench.benchmark.record import FEWEST_SEEDS
from paibench.leaderboard.stats.floors import ROW, holm, measured
from paibench.leaderboard.stats.log_odds import (
    ALPHA,
    Sample,
    in_points,
    sample_of,
    samples,
    welch,
)
from paibench.leaderboard.stats.summary import POINT, TRACK

VERDICTS = {
    "shuffle": {
        "better": "beats random with the same density per layer",
        "worse": "worse than random with the same density per layer",
        "equivalent": "only the number of weights kept in each layer matters",
        "not significant": "no significant difference from random with the same density per layer",
        "too few seeds": "too few seeds",
    },
    "reinit": {
        "better": "the mask depends on the initial weights",
        "worse": "better with fresh weights than with the initial ones",
        "equivalent": "the mask does not depend on the initial weights",
        "not significant": "no significant difference from the same mask with fresh weights",
        "too few seeds": "too few seeds",
    },
    "invert": {
        "better": "the highest scores are better than the lowest",
        "worse": "the lowest scores are better than the highest",
        "equivalent": "the scores mean little",
        "not significant": "no significant difference from keeping the lowest scores",
        "too few seeds": "too few seeds",
    },
}


def control_verdicts(runs: pd.DataFrame) -> pd.DataFrame:
    """Compare each method with its controls at equal density: a row per control cell.

    Columns: those of `floors.ROW`; `density_asked`; `n`, the fewest runs of the two; `difference`,
    `low` and `high`, of the method from its control, in fractions of accuracy (see
    `log_odds.in_points`); `p` of Welch's test, corrected by Holm over the densities of the method
    with that control; `outcome`, a key of `VERDICTS`; `verdict`. The outcome is "equivalent" if the
    difference is not significant and its whole 95 % interval is within one point: a difference that
    is not significant alone does not show that there is none.
    """
    values = measured(runs)
    values = values[values["method"] != "dense"]
    cells = samples(values, [*ROW, "density_asked"]).reset_index()
    at = [*TRACK, "method_label", "density_asked"]
    own = cells.loc[cells["control"] == "none", [*at, *Sample._fields]]
    pairs = cells[cells["control"].isin(list(VERDICTS))].merge(
        own.rename(columns={name: f"own_{name}" for name in Sample._fields}), on=at
    )
    base = sample_of(pairs)
    compared = welch(sample_of(pairs, "own_"), base)
    pairs["n"] = pairs[["n", "own_n"]].min(axis=1)
    points = in_points(compared, base)
    pairs = pairs.assign(**dict(zip(("difference", "low", "high"), points, strict=True)))
    p = pd.Series(compared.p, index=pairs.index)
    pairs["p"] = holm(p, pairs.groupby(ROW).ngroup())
    pairs["outcome"] = _outcomes(pairs)
    words = [
        VERDICTS[control][outcome]
        for control, outcome in zip(pairs["control"], pairs["outcome"], strict=True)
    ]
    pairs["verdict"] = pd.Series(words, index=pairs.index, dtype="str")
    kept = ["n", "difference", "low", "high", "p", "outcome", "verdict"]
    return pairs[[*ROW, "density_asked", *kept]]


def _outcomes(pairs: pd.DataFrame) -> pd.Series:
    outcome = pd.Series("not significant", index=pairs.index, dtype="str")
    outcome = outcome.mask((pairs["low"] >= -POINT) & (pairs["high"] <= POINT), "equivalent")
    significant = pairs["p"] <= ALPHA
    outcome = outcome.mask(significant, "worse")
    outcome = outcome.mask(significant & (pairs["difference"] > 0), "better")
    return outcome.mask(pairs["n"] < FEWEST_SEEDS, "too few seeds")

"""Each method compared with its own controls on equal seeds, with a verdict in words."""

import pandas as pd

from paibench.leaderboard.stats.paired import FAMILY, compare, holm, outcomes, own_cells
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
    """Compare each method with its controls at equal density and seed: a row per control cell.

    The columns are those of `paired.against_random`; `p_holm` is corrected over all methods with
    one control at one density; `outcome` is a key of `VERDICTS`. The outcome is "equivalent" if the
    difference is not significant and its whole 95 % interval is within one point: a difference that
    is not significant alone does not show that there is none.
    """
    own = own_cells(runs)
    compared = runs["control"].isin(list(VERDICTS)) & (runs["method"] != "dense")
    pair = [*TRACK, "method_label", "density_asked", "seed"]
    # Several controls share one partner, so the control is the run; the sign turns it around.
    cells = compare(runs[compared & (runs["density_asked"] < 1)], runs[own], pair, sign=-1)
    cells["p_holm"] = holm(cells["p"], cells.groupby([*FAMILY, "control"]).ngroup())
    within = cells["difference"].abs() + cells["half"] <= POINT
    outcome = outcomes(cells)
    cells["outcome"] = outcome.mask(within & (outcome == "not significant"), "equivalent")
    words = [
        VERDICTS[control][outcome]
        for control, outcome in zip(cells["control"], cells["outcome"], strict=True)
    ]
    return cells.assign(verdict=pd.Series(words, index=cells.index, dtype="str"))

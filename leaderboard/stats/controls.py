"""What the controls of a method say: each against the method itself, on equal seeds, in words."""

import pandas as pd

from paibench.leaderboard.stats.paired import FAMILY, compare, holm, outcomes, own_cells
from paibench.leaderboard.stats.summary import TRACK

POINT = 0.01
VERDICTS = {
    "shuffle": {
        "better": "beats random with the same density per layer",
        "worse": "worse than random with the same density per layer",
        "alike": "what matters is only how many weights each layer keeps",
        "not told apart": "not told from random with the same density per layer",
        "too few seeds": "too few seeds",
    },
    "reinit": {
        "better": "the mask depends on the initial weights",
        "worse": "better with fresh weights than with the initial ones",
        "alike": "the mask does not depend on the initial weights",
        "not told apart": "not told from the same mask with fresh weights",
        "too few seeds": "too few seeds",
    },
    "invert": {
        "better": "the highest scores are better than the lowest",
        "worse": "the lowest scores are better than the highest",
        "alike": "the scores mean little",
        "not told apart": "not told from keeping the lowest scores",
        "too few seeds": "too few seeds",
    },
}


def control_verdicts(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of a method minus that of its control at equal density and seed.

    A row per cell of a control that has a pair; `control` says which. Columns as of
    `paired.against_random`, with `p_holm` over all methods of one control at one density, and
    `outcome`, a key of `VERDICTS`. "alike" is said where the two were not told apart and the
    whole 95 % interval of the difference is within one point: not seeing a difference is no
    proof that there is none.
    """
    own = own_cells(runs)
    known = runs["control"].isin(list(VERDICTS)) & (runs["method"] != "dense")
    pair = [*TRACK, "method_label", "density_asked", "seed"]
    found = compare(runs[known & (runs["density_asked"] < 1)], runs[own], pair, sign=-1)
    found["p_holm"] = holm(found["p"], found.groupby([*FAMILY, "control"]).ngroup())
    within = found["difference"].abs() + found["half"] <= POINT
    outcome = outcomes(found)
    found["outcome"] = outcome.mask(within & (outcome == "not told apart"), "alike")
    words = [
        VERDICTS[control][said]
        for control, said in zip(found["control"], found["outcome"], strict=True)
    ]
    return found.assign(verdict=pd.Series(words, index=found.index, dtype="str"))

"""What a control says of its method: Welch's test, and words that fit it."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from accuracies import MANY
from scipy import special, stats

from paibench.benchmark.spec import Control
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.stats.controls import VERDICTS, control_verdicts

FIELDS = {"dataset": "d", "model": "m", "recipe": "r", "init": "i", "evaluated_on": "test"}
OURS = [0.900, 0.910, 0.905, 0.903, 0.907]


def runs_of(
    values: dict[str, list[float | None]], method: str = "snip", density: float = 0.1
) -> pd.DataFrame:
    """Runs of one method by control, of seeds 0, 1, ...; those without an accuracy are missing."""
    usual = FIELDS | {"data_fingerprint": "f" * 64, "method": method, "method_label": method}
    return tabulate(
        usual
        | {"control": control, "density_asked": density, "seed": seed, "accuracy": value}
        | {"test_examples": MANY}
        | {"status": "missing" if value is None else "done"}
        for control, accuracies in values.items()
        for seed, value in enumerate(accuracies)
    )


def shifted(*shifts: float) -> list[float | None]:
    """The accuracies of the method, less so much each."""
    return [own - shift for own, shift in zip(OURS, shifts, strict=True)]


def test_every_control_has_its_words() -> None:
    """All that a spec may ask for but none, with the same outcomes."""
    assert {*VERDICTS, "none"} == set(get_args(Control))
    assert len({tuple(words) for words in VERDICTS.values()}) == 1


def test_the_numbers_are_scipys() -> None:
    """Welch's test of the log-odds; the difference in points from the accuracy of the control."""
    fresh: list[float | None] = [0.88, 0.87, None, 0.89, 0.7]
    found = control_verdicts(runs_of({"none": [*OURS], "reinit": fresh})).iloc[0]
    ours, theirs = (
        np.log(np.divide(a, np.subtract(1, a))) for a in (OURS, [0.88, 0.87, 0.89, 0.7])
    )
    welch = stats.ttest_ind(ours, theirs, equal_var=False)
    ends = welch.confidence_interval(0.95)
    points = [
        1 / (1 + np.exp(-theirs.mean() - by)) - 1 / (1 + np.exp(-theirs.mean()))
        for by in (ours.mean() - theirs.mean(), *ends)
    ]
    assert (found["control"], found["n"]) == ("reinit", 4)
    assert list(found[["difference", "low", "high"]]) == pytest.approx(points, rel=1e-6)
    assert found["p"] == pytest.approx(welch.pvalue, rel=1e-6)


@pytest.mark.parametrize("control", list(VERDICTS))
@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        (shifted(0.10, 0.11, 0.10, 0.09, 0.1), "better"),
        (shifted(-0.05, -0.06, -0.05, -0.05, -0.05), "worse"),
        (shifted(0.001, -0.001, 0.001, -0.002, 0.001), "equivalent"),
        (shifted(0.1, -0.08, 0.08, -0.02, -0.03), "not significant"),
        (shifted(0.016, -0.016, 0.015, -0.015, 0.001), "not significant"),
        (shifted(0.10, 0.11, 0.10, 0.09, 0.1)[:4], "too few seeds"),
        (shifted(0.011, 0.015, 0.012, 0.012, 0.01), "better"),
    ],
    ids=[
        "better",
        "worse",
        "equivalent",
        "undecided",
        "just undecided",
        "four seeds",
        "slightly better",
    ],
)
def test_verdicts(control: str, other: list[float | None], outcome: str) -> None:
    """ "Alike" only where the whole interval is within one point and no difference was seen."""
    found = control_verdicts(runs_of({"none": [*OURS], control: other})).iloc[0]
    assert found["outcome"] == outcome
    assert found["verdict"] == VERDICTS[control][outcome]


def test_shuffled_is_random_with_the_same_density_per_layer() -> None:
    """The verdict of a method that its own shuffle does not reach says so."""
    found = control_verdicts(
        runs_of({"none": [*OURS], "shuffle": shifted(0.1, 0.11, 0.1, 0.09, 0.1)})
    )
    assert list(found["verdict"]) == ["beats random with the same density per layer"]


def test_each_method_density_and_control_stands_alone() -> None:
    """Partners are of one label and density; a method with one control is a family of its own."""
    clear, unclear = shifted(0.10, 0.11, 0.10, 0.09, 0.1), shifted(0.1, -0.08, 0.08, -0.02, 0.0)
    runs = pd.concat(
        [
            runs_of({"none": [*OURS], "shuffle": clear, "reinit": clear}),
            runs_of({"none": [*OURS], "shuffle": unclear}, density=0.2),
            runs_of({"shuffle": clear}, method="grasp"),
            runs_of({"none": [*OURS], "shuffle": unclear}, method="synflow"),
            runs_of({"none": [*OURS], "invert": clear}, density=1.0),
            runs_of({"none": [*OURS], "reinit": clear}, method="dense", density=1.0),
        ],
        ignore_index=True,
    )
    found = control_verdicts(runs).set_index(["control", "density_asked", "method"]).sort_index()
    at = [("reinit", 0.1), ("shuffle", 0.1), ("shuffle", 0.1), ("shuffle", 0.2)]
    assert [place[:2] for place in found.index] == at
    p, q = (
        stats.ttest_ind(special.logit(OURS), special.logit(np.array(other, float)), equal_var=False)
        for other in (clear, unclear)
    )
    expected = [p.pvalue, 2 * p.pvalue, q.pvalue, q.pvalue]
    assert list(found["p"]) == pytest.approx(expected, rel=1e-5)


def test_no_controls_make_no_rows() -> None:
    """With the columns that there would be."""
    found = control_verdicts(runs_of({"none": [*OURS]}))
    assert len(found) == 0
    assert {"control", "n", "difference", "low", "high", "outcome", "verdict"} <= set(found.columns)

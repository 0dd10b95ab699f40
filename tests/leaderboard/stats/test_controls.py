"""What a control says of its method: a paired test, and words that fit it."""

from typing import get_args

import pandas as pd
import pytest
from scipy import stats

from paibench.benchmark.spec import Control
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.stats.controls import VERDICTS, control_verdicts

FIELDS = {"dataset": "d", "model": "m", "recipe": "r", "init": "i", "evaluated_on": "test"}
OURS = [0.900, 0.910, 0.905, 0.903]


def runs_of(
    values: dict[str, list[float | None]], method: str = "snip", density: float = 0.1
) -> pd.DataFrame:
    """Runs of one method by control, of seeds 0, 1, ...; those without an accuracy are missing."""
    usual = FIELDS | {"data_fingerprint": "f" * 64, "method": method, "method_label": method}
    return tabulate(
        usual
        | {"control": control, "density_asked": density, "seed": seed, "accuracy": value}
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


def test_difference_is_paired_and_scipys() -> None:
    """The method minus its control, on the seeds that both have."""
    fresh: list[float | None] = [0.88, 0.87, None, 0.89, 0.7]
    found = control_verdicts(runs_of({"none": [*OURS], "reinit": fresh})).iloc[0]
    theirs = stats.ttest_rel([0.900, 0.910, 0.903], [0.88, 0.87, 0.89])
    low, high = theirs.confidence_interval(0.95)
    assert (found["control"], found["n"], found["lost"]) == ("reinit", 3, 2)
    assert found["difference"] == pytest.approx((low + high) / 2, abs=1e-12)
    assert found["half"] == pytest.approx((high - low) / 2, abs=1e-12)
    assert found["p"] == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize("control", list(VERDICTS))
@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        (shifted(0.10, 0.11, 0.10, 0.09), "better"),
        (shifted(-0.05, -0.06, -0.05, -0.05), "worse"),
        (shifted(0.001, -0.001, 0.001, -0.002), "equivalent"),
        (shifted(0.1, -0.1, 0.08, -0.02), "not significant"),
        (shifted(0.006, -0.006, 0.005, -0.005), "not significant"),
        (shifted(0.10, 0.11, 0.10, 0.09)[:2], "too few seeds"),
        (shifted(0.001, 0.0015, 0.001, 0.0012), "better"),
    ],
    ids=[
        "better",
        "worse",
        "equivalent",
        "undecided",
        "just undecided",
        "two seeds",
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
    found = control_verdicts(runs_of({"none": [*OURS], "shuffle": shifted(0.1, 0.11, 0.1, 0.09)}))
    assert list(found["verdict"]) == ["beats random with the same density per layer"]


def test_each_method_density_and_control_stands_alone() -> None:
    """Partners are of one label and density; each control at a density is a family of its own."""
    clear, unclear = shifted(0.10, 0.11, 0.10, 0.09), shifted(0.1, -0.1, 0.08, -0.02)
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
    ratio = found["p_holm"] / found["p"]
    assert list(ratio) == pytest.approx([1, 2, 1, 1])


def test_no_controls_make_no_rows() -> None:
    """With the columns that there would be."""
    found = control_verdicts(runs_of({"none": [*OURS]}))
    assert len(found) == 0
    assert {"control", "n", "difference", "half", "outcome", "verdict"} <= set(found.columns)

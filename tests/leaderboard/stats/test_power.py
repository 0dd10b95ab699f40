"""How often verdicts and rank sets are right, by simulation; prints the table of statistics.md.

The log-odds of runs are normal, with a standard deviation of 1 for the endpoint of a seed. Both
random floors have 10 seeds. Differences are in standard deviations of the endpoint.
"""

import numpy as np
import pandas as pd
import pytest
from accuracies import ERK, GRID, MANY, tracks_of
from scipy import special

from paibench.leaderboard.stats.floors import verdicts
from paibench.leaderboard.stats.rank_set import rank_set

pytestmark = pytest.mark.slow
TRACKS = 1_000
SPREAD = 0.1 * np.sqrt(len(GRID))
"""Of a run; the mean over the grid has 0.1, which is one standard deviation of the endpoint."""
FLOORS = {"random": -2.0, ERK: 0.0}


def simulated(means: dict[str, float], n: int, seed: int = 0) -> pd.DataFrame:
    """Runs of many tracks; means are in standard deviations of the endpoint above the floor."""
    generator = np.random.default_rng(seed)
    frames = []
    for label, mean in (FLOORS | means).items():
        seeds = 10 if label in FLOORS else n
        size = (len(GRID), seeds, TRACKS)
        odds = generator.normal(1 + 0.1 * mean, SPREAD, size)
        frames.append(tracks_of([(label, d) for d in GRID], special.expit(odds), MANY))
    return pd.concat(frames, ignore_index=True)


def share(outcomes: pd.Series, outcome: str) -> float:
    return float((outcomes == outcome).mean())


@pytest.mark.parametrize("n", [5, 10])
def test_a_method_like_the_better_floor_rarely_beats_it(n: int) -> None:
    """At most 5 % of such methods have any "better", of the endpoint or of a density."""
    first, cells = verdicts(simulated({"snip": 0.0}, n))
    rows = pd.concat([first, cells])
    rows = rows[rows["method"] == "snip"]
    false = rows.assign(better=rows["outcome"] == "better").groupby("dataset")["better"].any()
    print(f"\nfalse verdicts, n = {n}: {false.mean():.3f}")
    assert false.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRACKS)


# Lowest shares of true differences of 1, 2 and 3 standard deviations that are found.
POWER = {5: (0.3, 0.85, 0.97), 10: (0.5, 0.97, 0.99)}


@pytest.mark.parametrize("n", [3, 5, 10])
def test_true_differences_are_found(n: int) -> None:
    """Fewer than five seeds have no verdict; their p is shown to say what it would be worth."""
    for difference in (1, 2, 3):
        first, _ = verdicts(simulated({"snip": float(difference)}, n))
        own = first[first["method"] == "snip"]
        found = share(own["outcome"], "better")
        would = ((own["p"] <= 0.05) & (own["erk_difference"] > 0)).mean()
        print(f"\ndifference {difference}, n = {n}: {found:.3f} found, p <= 0.05 in {would:.3f}")
        assert found == (would if n >= 5 else 0)
        assert n == 3 or found >= POWER[n][difference - 1]


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("gap", [0.0, 0.5, 2.0])
def test_rank_sets_have_the_true_ranks(n: int, gap: float) -> None:
    """All ten sets together, in 95 % of tracks; the set of equal rows has all of their ranks."""
    means = {f"m{place}": gap * (place + 1) for place in range(8)}
    first, _ = rank_set(simulated(means, n))
    true = pd.Series(FLOORS | means)
    above = first["method_label"].map(
        {name: int((true > mean).sum()) for name, mean in true.items()}
    )
    equal = first["method_label"].map(
        {name: int((true == mean).sum()) for name, mean in true.items()}
    )
    inside = (first["best_rank"] <= above + 1) & (first["worst_rank"] >= above + equal)
    whole = inside.groupby(first["dataset"]).all()
    width = (first["worst_rank"] - first["best_rank"] + 1).mean()
    print(f"\ngap {gap}, n = {n}: all sets right in {whole.mean():.3f}, mean width {width:.1f}")
    assert whole.mean() >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / TRACKS)


@pytest.mark.parametrize("at", [-20.0, 2.0])
def test_eight_junk_methods_change_no_verdict(at: float) -> None:
    """Far below all others, or in their midst; rank sets become wider, by how much is printed."""
    means = {f"m{place}": float(place) for place in range(5)}
    junk = {f"zjunk{place}": at for place in range(8)}
    before, after = simulated(means, 5), simulated(means | junk, 5)
    for old, new in zip(verdicts(before), verdicts(after), strict=True):
        others = new[~new["method"].isin(junk)].reset_index(drop=True)
        pd.testing.assert_frame_equal(old, others)
    old, new = (rank_set(runs)[0] for runs in (before, after))
    new = new[~new["method"].isin(junk)]
    widths = [(table["worst_rank"] - table["best_rank"] + 1).mean() for table in (old, new)]
    print(f"\njunk at {at}: mean width of the rank sets {widths[0]:.2f}, then {widths[1]:.2f}")
    assert widths[1] >= widths[0]

"""Critical densities and area of a row: by hand, by scipy, and never over incomplete cells."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from accuracies import MANY, runs_of, tracks_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special, stats

from paibench.leaderboard.stats.critical_sparsity import (
    BELOW,
    LARGER_ERROR,
    LOST_AT_DENSEST,
    LOST_AT_FLOOR,
    NO_DENSE,
    NO_FLOOR,
    NO_ROOM,
    critical_sparsity,
)

DENSE = {"dense": {1.0: 0.90}}
FLOOR = {"random": {0.1: 0.80, 0.01: 0.60}}
FORMS = ("critical", "relative")


def cells_of(
    rows: dict[str, dict[float, float]], n: int = 3, lost: int = 0, **fields: Any
) -> pd.DataFrame:
    """Equal runs of each cell, by method and density, and others that failed; NaN: all failed."""
    accuracies = {
        (label, density): [mean] * n + [math.nan] * lost
        for label, means in rows.items()
        for density, mean in means.items()
    }
    found = runs_of(accuracies, **{"test_examples": MANY} | fields)
    return found.assign(status=found["status"].mask(found["accuracy"].isna(), "failed"))


def of(found: pd.DataFrame, label: str) -> dict[str, Any]:
    """The only row of a method itself."""
    own = found[(found["method_label"] == label) & (found["control"] == "none")]
    [row] = own.to_dict("records")
    return {str(name): value for name, value in row.items()}


def judged(snip: dict[float, float], *references: pd.DataFrame) -> dict[str, Any]:
    """The row of snip with these means beside references, by default those above."""
    parts = references or (cells_of(DENSE), cells_of(FLOOR))
    found = critical_sparsity(pd.concat([*parts, cells_of({"snip": snip})], ignore_index=True))
    return of(found, "snip")


CLOSE = [("dense", 1.0), ("snip", 0.1)]


def draws(
    truth: Mapping[tuple[str, float], float],
    n: int,
    count: int,
    spread: float = 0.1,
    shared: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Runs of many tracks, whose log-odds are normal around a true value of each cell.

    The standard deviation is `spread` for the first cell and one and a half times that for the
    last one. `shared` is the correlation of the cells of one method and seed.
    """
    means = np.array(list(truth.values()))[:, None, None]
    scales = spread * np.linspace(1, 1.5, len(truth))[:, None, None]
    generator = np.random.default_rng(seed)
    labels = [label for label, _ in truth]
    of_row = generator.normal(size=(len(set(labels)), n, count))
    common = of_row[[sorted(set(labels)).index(label) for label in labels]]
    own = generator.normal(size=(len(truth), n, count))
    values = means + scales * (math.sqrt(shared) * common + math.sqrt(1 - shared) * own)
    return tracks_of(list(truth), special.expit(values))


@pytest.mark.parametrize(
    ("means", "expected", "why"),
    [
        ({0.5: 0.90, 0.2: 0.895, 0.1: 0.8901, 0.05: 0.87}, (0.1, 0.1), ("", "")),
        ({0.5: 0.90, 0.2: 0.895, 0.1: 0.8801, 0.05: 0.87}, (0.2, 0.1), ("", "")),
        ({0.5: 0.95, 0.2: 0.91}, (0.2, 0.2), ("", "")),
        ({0.5: 0.90, 0.2: 0.85, 0.1: 0.90}, (0.5, 0.5), ("", "")),
        ({0.5: 0.90, 0.2: math.nan, 0.1: 0.90}, (0.5, 0.5), ("", "")),
        ({0.5: 0.8801, 0.2: 0.90}, (math.nan, 0.2), (BELOW, "")),
        ({0.5: 0.87, 0.2: 0.90}, (math.nan, math.nan), (BELOW, LARGER_ERROR)),
        ({0.5: math.nan, 0.2: 0.90}, (math.nan, math.nan), (LOST_AT_DENSEST, LOST_AT_DENSEST)),
    ],
    ids=["point", "error", "above dense", "dip", "gap", "one form", "densest below", "missing"],
)
def test_critical_densities(
    means: dict[float, float], expected: tuple[float, float], why: tuple[str, str]
) -> None:
    """Of a dense mean of 0.90: the last at 0.89 or more, and at 0.88 or more, before a lower one.

    Runs without any spread show what their means say.
    """
    row = judged(means)
    for form, density, reason in zip(FORMS, expected, why, strict=True):
        for name in ("density", "sure", "possible"):
            assert row[f"{form}_{name}"] == pytest.approx(density, nan_ok=True)
        assert row["critical_beyond" if form == "critical" else f"{form}_beyond"] == (
            density == min(means)
        )
        assert row[f"{form}_reason"] == reason


@pytest.mark.parametrize("examples", [1_000, 10_000, 50_000])
@pytest.mark.parametrize("form", FORMS)
def test_an_image_more_decides(form: str, examples: int) -> None:
    """Exactly one point, or exactly 1.2 times the error, is within; one image more is not."""
    wrong = np.arange(5, examples * 4 // 5, 5)  # 1.2 times a multiple of 5 is exact
    most = wrong + examples // 100 if form == "critical" else 6 * wrong // 5
    for extra, expected in ((0, 1), (1, 0)):
        errors = np.stack([wrong, most + extra]) / examples
        found = critical_sparsity(tracks_of(CLOSE, 1 - errors[:, None, :], examples))
        assert (found[f"{form}_density"].notna() == expected).all()


def test_dense_may_be_so_bad_that_every_error_is_close() -> None:
    """Below 1 % nothing is a point lower, and above an error of 5 in 6 nothing is 1.2 times it."""
    row = judged({0.1: 0.0}, cells_of({"dense": {1.0: 0.005}}))
    for form in FORMS:
        assert {row[f"{form}_{name}"] for name in ("density", "sure", "possible")} == {0.1}


def margin_of(form: str, dense: float) -> float:
    """The margin of a form in log-odds, from the mean log-odds of dense."""
    accuracy = special.expit(dense)
    lowest = accuracy - 0.01 if form == "critical" else 1 - 1.2 * (1 - accuracy)
    return float(dense - special.logit(lowest))


@pytest.mark.parametrize("form", FORMS)
def test_sure_and_possible_are_where_scipys_one_sided_tests_end(form: str) -> None:
    """Of 40 noisy rows: Welch's tests of the difference from dense plus the margin, at 2.5 %."""
    densities = [0.5, 0.2, 0.1, 0.05]
    truth = {("dense", 1.0): 2.2} | {("snip", d): 2.2 - 0.05 * i for i, d in enumerate(densities)}
    runs = draws(truth, n=4, count=40)
    rows = critical_sparsity(runs).set_index("dataset").to_dict("index")
    odds = special.logit(runs["accuracy"].to_numpy()).reshape(5, 4, 40)
    ends = set()
    for track in range(40):
        dense = odds[0, :, track]
        shifted = odds[1:, :, track] + margin_of(form, dense.mean())
        p = {
            side: [
                stats.ttest_ind(values, dense, equal_var=False, alternative=side).pvalue
                for values in shifted
            ]
            for side in ("greater", "less")
        }
        sure = last(densities, [value <= 0.025 for value in p["greater"]])
        possible = last(densities, [value > 0.025 for value in p["less"]])
        row = rows[str(track)]
        assert row[f"{form}_sure"] == pytest.approx(sure, nan_ok=True)
        assert row[f"{form}_possible"] == pytest.approx(possible, nan_ok=True)
        ends |= {str(sure), str(possible)}
    assert len(ends) > 3


def last(densities: list[float], holds: list[bool]) -> float:
    count = holds.index(False) if False in holds else len(holds)
    return densities[count - 1] if count else math.nan


@settings(derandomize=True, max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(-1, 5), st.floats(0.001, 0.5))
def test_sure_is_the_densest_and_possible_the_sparsest(
    seed: int, n: int, dense: float, spread: float
) -> None:
    """With no number for sure if there is none for the means, and likewise for possible."""
    truth = {("dense", 1.0): dense} | {("snip", 0.5**i): dense - 0.05 * i for i in range(1, 6)}
    found = critical_sparsity(draws(truth, n, count=20, spread=spread, seed=seed))
    for form in FORMS:
        ordered = found[[f"{form}_possible", f"{form}_density", f"{form}_sure"]].fillna(2)
        assert (ordered.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


def test_a_single_run_shows_nothing() -> None:
    """Of dense or at the densest: no interval; further down it is neither within nor outside."""
    means = {0.5: 0.90, 0.2: 0.90, 0.1: 0.90}
    row = judged(means, cells_of(DENSE, n=1))
    assert (row["critical_density"], row["n"]) == (0.1, 1)
    assert math.isnan(row["critical_sure"]) and math.isnan(row["relative_possible"])
    for single, sure in ((0.5, math.nan), (0.2, 0.5)):
        others = {density: mean for density, mean in means.items() if density != single}
        row = judged(others, cells_of(DENSE), cells_of({"snip": {single: 0.90}}, n=1))
        assert row["critical_density"] == 0.1
        assert row["critical_sure"] == pytest.approx(sure, nan_ok=True)
        assert row["critical_possible"] == pytest.approx(
            math.nan if single == 0.5 else 0.1, nan_ok=True
        )


def test_few_test_images_show_little() -> None:
    """Equal runs on 1,000 images may differ by a point on others; on 10^9 images they do not."""
    few = critical_sparsity(cells_of(DENSE | {"snip": {0.1: 0.90}}, test_examples=1_000))
    assert math.isnan(of(few, "snip")["critical_sure"])
    assert of(few, "snip")["critical_possible"] == 0.1


def test_area_by_hand() -> None:
    """Over one decade: the mean gain of two densities over random, of the mean room to dense."""
    row = judged({0.1: 0.85, 0.01: 0.75})
    odds = {p: math.log(p / (1 - p)) for p in (0.6, 0.75, 0.8, 0.85, 0.9)}
    gain = odds[0.85] - odds[0.8] + odds[0.75] - odds[0.6]
    assert row["area"] == pytest.approx(gain / (2 * odds[0.9] - odds[0.8] - odds[0.6]), abs=1e-6)
    assert row["area_reason"] == ""


UNEVEN = [0.1, 0.05, 0.01]


def area_of(means: NDArray[np.float64]) -> float:
    """By numpy, from log-odds of dense, of random at `UNEVEN` densities, and of snip there."""
    x, dense = -np.log10(UNEVEN), np.full(3, means[0])
    under = [np.trapezoid(heights, x) for heights in (means[4:], means[1:4], dense)]
    return float((under[0] - under[1]) / (under[2] - under[1]))


CURVES = {("dense", 1.0): 2.2} | {
    (label, density): value
    for label, values in {"random": (1.4, 0.9, -0.3), "snip": (2.0, 1.4, 0.2)}.items()
    for density, value in zip(UNEVEN, values, strict=True)
}


def test_area_and_its_interval_are_those_of_the_delta_method() -> None:
    """By numpy's trapezoids and scipy's derivatives, of three densities not evenly apart."""
    runs = draws(CURVES, n=4, count=20, spread=0.3)
    found = critical_sparsity(runs)
    rows = found[found["method"] == "snip"].set_index("dataset").to_dict("index")
    odds = special.logit(runs["accuracy"].to_numpy()).reshape(7, 4, 20)
    for track in range(20):
        each = odds[:, :, track]
        means = each.mean(axis=1)
        curves = np.repeat(each[:1], 3, axis=0), each[1:4], each[4:]
        by_seed = np.array([np.trapezoid(curve, -np.log10(UNEVEN), axis=0) for curve in curves])
        slopes = optimize.approx_fprime(
            by_seed.mean(axis=1), lambda a: (a[2] - a[1]) / (a[0] - a[1]), 1e-7
        )
        parts = slopes**2 * by_seed.var(axis=1, ddof=1) / 4
        degrees = parts.sum() ** 2 / (parts**2 / 3).sum()
        low, high = stats.t.interval(0.95, degrees, area_of(means), math.sqrt(parts.sum()))
        row = rows[str(track)]
        assert row["area"] == pytest.approx(area_of(means), abs=1e-7)
        assert (row["area_low"], row["area_high"]) == pytest.approx((low, high), rel=1e-4)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(
    st.lists(st.floats(-3, 2), min_size=2, max_size=6),
    st.floats(0, 1),
)
def test_area_is_0_for_random_1_for_dense_and_linear_between(
    drawn: list[float], part: float
) -> None:
    """A curve of log-odds part of the way from random to dense has that part as its area."""
    floor = {0.5**k: low for k, low in enumerate(drawn, start=1)}
    rows = {
        "dense": {1.0: 2.2},
        "random": floor,
        "snip": {density: low + part * (2.2 - low) for density, low in floor.items()},
    }
    accuracies = {
        label: {density: float(special.expit(value)) for density, value in values.items()}
        for label, values in rows.items()
    }
    row = of(critical_sparsity(cells_of(accuracies)), "snip")
    assert row["area"] == pytest.approx(part, abs=1e-6)


def test_random_has_area_0_without_an_interval() -> None:
    """Its curve minus itself is 0 whatever its runs are; random with options is another row."""
    other = {("random(layers=erk)", d): CURVES["snip", d] for d in UNEVEN}
    found = critical_sparsity(draws(CURVES | other, n=3, count=10))
    floor = found[found["method_label"] == "random"]
    assert (floor["area"] == 0).all()
    assert floor[["area_low", "area_high"]].isna().all(axis=None)
    assert found.loc[found["method_label"] != "random", "area_low"].notna().all()


def test_a_single_run_gives_an_area_without_an_interval() -> None:
    """Whether it is of dense, of random or of the method."""
    snip = {"snip": {0.1: 0.85, 0.01: 0.75}}
    for single in (DENSE, FLOOR, snip):
        parts = [cells_of(rows, n=1 if rows is single else 3) for rows in (DENSE, FLOOR, snip)]
        row = of(critical_sparsity(pd.concat(parts, ignore_index=True)), "snip")
        assert row["area"] > 0
        assert math.isnan(row["area_low"]) and math.isnan(row["area_high"])


def test_rows_of_a_track() -> None:
    """Random has area 0; a control is a row of its own; dense is none; n is the least."""
    parts = [
        cells_of(DENSE, n=5),
        cells_of(FLOOR),
        cells_of({"snip": {1.0: 0.9, 0.1: 0.90, 0.01: 0.75}}, n=4),
        cells_of({"snip": {0.1: 0.80, 0.01: 0.60}}, control="shuffle"),
        cells_of({"synflow": {0.1: 0.90, 0.01: 0.90}}),
    ]
    found = critical_sparsity(pd.concat(parts, ignore_index=True))
    rows = list(zip(found["method_label"], found["control"], strict=True))
    assert rows == [("random", "none"), ("snip", "none"), ("snip", "shuffle"), ("synflow", "none")]
    assert list(found["area"])[::2] == pytest.approx([0, 0])
    assert list(found["area"])[3] == pytest.approx(1)
    assert list(found["n"]) == [3, 3, 3, 3]
    assert list(found["critical_density"])[1::2] == [0.1, 0.01]
    assert list(found["critical_beyond"]) == [False, False, False, True]
    assert set(found["area_reason"]) == {""}


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([cells_of(FLOOR)], NO_DENSE),
        ([cells_of(DENSE, lost=1), cells_of(FLOOR)], NO_DENSE),
        ([cells_of({"dense": {0.5: 0.90}}), cells_of(FLOOR)], NO_DENSE),
        ([cells_of(DENSE)], NO_FLOOR),
        ([cells_of(DENSE), cells_of(FLOOR, lost=1)], NO_FLOOR),
        ([cells_of(DENSE), cells_of({"random": {0.1: 0.8}})], NO_FLOOR),
        ([cells_of(DENSE), cells_of({"random": {0.1: 0.95, 0.01: 0.85}})], NO_ROOM),
        ([cells_of(DENSE), cells_of({"random": {0.1: 0.8, 0.001: 0.5}})], LOST_AT_FLOOR),
    ],
    ids=[
        "no dense",
        "dense lost",
        "dense pruned",
        "no floor",
        "floor lost",
        "one density",
        "no room",
        "gap",
    ],
)
def test_no_area_without_a_reason(cells: list[pd.DataFrame], why: str) -> None:
    """Not a number, and in words why."""
    row = judged({0.1: 0.85, 0.01: 0.75}, *cells)
    assert math.isnan(row["area"]) and math.isnan(row["area_low"])
    assert row["area_reason"] == why


def test_cells_that_lost_runs_do_not_count() -> None:
    """The survivors at 0.01 are as good as dense, and no number believes it."""
    parts = [cells_of(DENSE), cells_of(FLOOR), cells_of({"snip": {0.1: 0.9}})]
    lost = cells_of({"snip": {0.01: 0.9}}, n=2, lost=1)
    row = of(critical_sparsity(pd.concat([*parts, lost], ignore_index=True)), "snip")
    assert (row["critical_density"], row["critical_beyond"]) == (0.1, False)
    assert (row["critical_sure"], row["critical_possible"]) == (0.1, 0.1)
    assert row["area_reason"] == LOST_AT_FLOOR


def test_an_accuracy_of_a_run_that_failed_does_not_count() -> None:
    """A run that diverged counts."""
    found = cells_of(DENSE | FLOOR | {"snip": {0.1: 0.9, 0.01: 0.9}})
    densities = {}
    for status in ("failed", "diverged"):
        last_run = (found["method"] == "snip") & (found["density_asked"] == 0.01)
        last_run &= found["seed"] == 2
        runs = found.assign(status=found["status"].mask(last_run, status))
        densities[status] = of(critical_sparsity(runs), "snip")["critical_density"]
    assert densities == {"failed": 0.1, "diverged": 0.01}


def test_densities_that_random_lacks_do_not_count() -> None:
    """What one method was asked for alone changes no area."""
    without, with_more = ({0.1: 0.85, 0.01: 0.75}, {0.1: 0.85, 0.05: 0.1, 0.01: 0.75})
    assert judged(without)["area"] == pytest.approx(judged(with_more)["area"], abs=1e-12)


def test_tracks_have_their_own_references() -> None:
    """The same means are at random's in one track and at dense's in the other."""
    snip = {"snip": {0.1: 0.80, 0.01: 0.60}}
    one = cells_of(DENSE | FLOOR | snip)
    other = cells_of({"dense": {1.0: 0.80}, "random": {0.1: 0.80, 0.01: 0.40}} | snip, model="y")
    found = critical_sparsity(pd.concat([one, other], ignore_index=True))
    rows = found[found["method"] == "snip"].set_index("model").to_dict("index")
    assert rows["m"]["area"] == pytest.approx(0)
    assert 0.4 < rows["y"]["area"] < 0.6
    assert math.isnan(rows["m"]["critical_density"])
    assert rows["y"]["critical_density"] == 0.1


def test_the_order_of_runs_has_no_effect() -> None:
    """Shuffled runs give the same numbers, but for rounding."""
    runs = draws(CURVES, n=3, count=5)
    shuffled = runs.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(critical_sparsity(runs), critical_sparsity(shuffled))


def test_no_runs_make_no_rows() -> None:
    """With the columns that there would be."""
    found = critical_sparsity(cells_of(DENSE).iloc[:0])
    assert len(found) == 0
    assert list(found.columns) == list(critical_sparsity(cells_of(DENSE | FLOOR)).columns)


TRACKS = 4_000
NOISE = 2 * math.sqrt(0.05 * 0.95 / TRACKS)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("spread", [0.05, 0.4])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_the_interval_of_the_area_covers(n: int, spread: float, shared: float) -> None:
    """The true area is in 93 to 97 % of the intervals of 4,000 tracks, if seeds are alike too."""
    true = area_of(np.array(list(CURVES.values())))
    found = critical_sparsity(draws(CURVES, n, TRACKS, spread, shared))
    found = found[found["method"] == "snip"]
    covered = ((found["area_low"] <= true) & (true <= found["area_high"])).mean()
    assert 0.93 <= covered <= 0.97, covered


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dense", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_sure_and_possible_rarely_claim_too_much(form: str, dense: float, n: int) -> None:
    """If a density is exactly at the margin, either is wrong about it in at most 5 % of tracks."""
    top = float(special.logit(dense))
    truth = {("dense", 1.0): top, ("snip", 0.5): top, ("snip", 0.1): top - margin_of(form, top)}
    found = critical_sparsity(draws(truth, n, TRACKS, spread=0.02))
    assert (found[f"{form}_sure"] == 0.1).mean() <= 0.05 + NOISE
    assert (found[f"{form}_possible"] > 0.1).mean() <= 0.05 + NOISE

"""Critical density and area of a row: by hand, and never over cells that are not whole."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.leaderboard.stats.critical_sparsity import (
    BELOW,
    LOST_AT_DENSEST,
    LOST_AT_FLOOR,
    NO_DENSE,
    NO_FLOOR,
    NO_ROOM,
    critical_sparsity,
)
from paibench.leaderboard.stats.summary import TRACK

USUAL = {name: "x" for name in TRACK} | {"protocol": 1, "control": "none"}
DENSE = {"dense": {1.0: 0.90}}
FLOOR = {"random": {0.1: 0.80, 0.01: 0.60}}


def cells_of(rows: dict[str, dict[float, float]], **fields: Any) -> pd.DataFrame:
    """Cells of a summary: means by method and density, whole and of three runs if not said."""
    return pd.DataFrame(
        USUAL
        | {"method": method.partition("(")[0], "method_label": method, "density_asked": density}
        | {"accuracy_mean": mean, "accuracy_n": 3, "runs": 3}
        | fields
        for method, means in rows.items()
        for density, mean in means.items()
    )


def of(found: pd.DataFrame, label: str) -> dict[str, Any]:
    """The only row of a method itself."""
    [row] = found[(found["method_label"] == label) & (found["control"] == "none")].to_dict(
        "records"
    )
    return {str(name): value for name, value in row.items()}


def judged(snip: dict[float, float], *references: pd.DataFrame) -> dict[str, Any]:
    """The row of snip with these means beside references, by default those above."""
    parts = references or (cells_of(DENSE), cells_of(FLOOR))
    return of(
        critical_sparsity(pd.concat([*parts, cells_of({"snip": snip})], ignore_index=True)), "snip"
    )


@pytest.mark.parametrize(
    ("means", "expected", "why"),
    [
        ({0.5: 0.90, 0.2: 0.895, 0.1: 0.89, 0.05: 0.88}, 0.1, ""),
        ({0.5: 0.95, 0.2: 0.91}, 0.2, ""),
        ({0.5: 0.90, 0.2: 0.85, 0.1: 0.90}, 0.5, ""),
        ({0.5: 0.90, 0.2: math.nan, 0.1: 0.90}, 0.5, ""),
        ({0.5: 0.88, 0.2: 0.90}, math.nan, BELOW),
        ({0.5: math.nan, 0.2: 0.90}, math.nan, LOST_AT_DENSEST),
    ],
    ids=["one point is within", "above dense", "dip", "gap", "densest below", "densest missing"],
)
def test_critical_density(means: dict[float, float], expected: float, why: str) -> None:
    """Of a dense mean of 0.90: the last before the first that is more than one point below."""
    row = judged(means)
    assert row["critical_density"] == pytest.approx(expected, nan_ok=True)
    assert row["critical_beyond"] == (row["critical_density"] == min(means))
    assert row["critical_reason"] == why


def test_one_point_below_is_within_whatever_rounding_does() -> None:
    """A mean of dense runs may come out one float above 0.9; 0.89 is still a point below."""
    dense = math.nextafter(0.9, 1)
    assert dense - 0.01 > 0.89
    row = judged({0.1: 0.89}, cells_of({"dense": {1.0: dense}}))
    assert row["critical_density"] == 0.1


def test_area_by_hand() -> None:
    """Gains over random of 0.05 and 0.15, room of 0.1 and 0.3, one decade: 0.10 of 0.20."""
    row = judged({0.1: 0.85, 0.01: 0.75})
    assert row["area"] == pytest.approx(0.5, abs=1e-12)
    assert row["area_reason"] == ""


def test_area_is_over_the_logarithm_of_density() -> None:
    """As of numpy's trapezoids over log density, of three densities not evenly apart."""
    floor, snip = [0.8, 0.7, 0.5], [0.9, 0.85, 0.7]
    densities = [0.1, 0.05, 0.01]
    x = -np.log10(densities)
    expected = np.trapezoid(np.subtract(snip, floor), x) / np.trapezoid(0.9 - np.array(floor), x)
    random = cells_of({"random": dict(zip(densities, floor, strict=True))})
    row = judged(dict(zip(densities, snip, strict=True)), random, cells_of(DENSE))
    assert row["area"] == pytest.approx(expected, abs=1e-12)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 89), min_size=2, max_size=6),
    st.floats(0, 1),
)
def test_area_is_0_for_random_1_for_dense_and_linear_between(drawn: list[int], part: float) -> None:
    """A curve part of the way from random to dense has that part as its area."""
    floor = {0.5**k: low / 100 for k, low in enumerate(drawn, start=1)}
    means = {density: low + part * (0.9 - low) for density, low in floor.items()}
    row = judged(means, cells_of(DENSE), cells_of({"random": floor}))
    assert row["area"] == pytest.approx(part, abs=1e-9)


def test_rows_of_a_track() -> None:
    """Random has area 0; a control is a row of its own; dense is none; n is the least."""
    found = critical_sparsity(
        pd.concat(
            [
                cells_of(DENSE, accuracy_n=5, runs=5),
                cells_of(FLOOR),
                cells_of({"snip": {1.0: 0.9, 0.1: 0.90, 0.01: 0.75}}, accuracy_n=4, runs=4),
                cells_of({"snip": {0.1: 0.80, 0.01: 0.60}}, control="shuffle"),
                cells_of({"synflow": {0.1: 0.90, 0.01: 0.90}}),
            ],
            ignore_index=True,
        )
    )
    rows = list(zip(found["method_label"], found["control"], strict=True))
    assert rows == [("random", "none"), ("snip", "none"), ("snip", "shuffle"), ("synflow", "none")]
    assert list(found["area"]) == pytest.approx([0, 0.625, 0, 1])
    assert list(found["n"]) == [3, 3, 3, 3]
    assert list(found["critical_density"])[1::2] == [0.1, 0.01]
    assert list(found["critical_beyond"]) == [False, False, False, True]
    assert set(found["area_reason"]) == {""}


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([cells_of(FLOOR)], NO_DENSE),
        ([cells_of(DENSE, runs=4), cells_of(FLOOR)], NO_DENSE),
        ([cells_of(DENSE)], NO_FLOOR),
        (
            [cells_of(DENSE), cells_of(FLOOR, runs=4)],
            NO_FLOOR,
        ),
        (
            [cells_of(DENSE), cells_of({"random": {0.1: 0.8}})],
            NO_FLOOR,
        ),
        (
            [cells_of(DENSE), cells_of({"random": {0.1: 0.95, 0.01: 0.85}})],
            NO_ROOM,
        ),
        (
            [cells_of(DENSE), cells_of({"random": {0.1: 0.8, 0.001: 0.5}})],
            LOST_AT_FLOOR,
        ),
    ],
    ids=["no dense", "dense lost", "no floor", "floor lost", "one density", "no room", "gap"],
)
def test_no_area_without_a_reason(cells: list[pd.DataFrame], why: str) -> None:
    """Not a number, and in words why."""
    row = judged({0.1: 0.85, 0.01: 0.75}, *cells)
    assert math.isnan(row["area"])
    assert row["area_reason"] == why


def test_cells_that_lost_runs_do_not_count() -> None:
    """The survivor at 0.01 is as good as dense, and neither number believes it."""
    parts = [cells_of(DENSE), cells_of(FLOOR), cells_of({"snip": {0.1: 0.9}})]
    lost = cells_of({"snip": {0.01: 0.9}}, accuracy_n=2)
    row = of(critical_sparsity(pd.concat([*parts, lost], ignore_index=True)), "snip")
    assert (row["critical_density"], row["critical_beyond"]) == (0.1, False)
    assert row["area_reason"] == LOST_AT_FLOOR


def test_densities_that_random_lacks_do_not_count() -> None:
    """What one method was asked for alone changes no area."""
    row = judged({0.1: 0.85, 0.05: 0.1, 0.01: 0.75})
    assert row["area"] == pytest.approx(0.5, abs=1e-12)


def test_tracks_have_their_own_references() -> None:
    """The same means are half-way in one track and at dense's in the other."""
    snip = {"snip": {0.1: 0.85, 0.01: 0.75}}
    one = cells_of(DENSE | FLOOR | snip)
    other = cells_of({"dense": {1.0: 0.85}, "random": {0.1: 0.85, 0.01: 0.65}} | snip, model="y")
    found = critical_sparsity(pd.concat([one, other], ignore_index=True))
    areas = found[found["method"] == "snip"].set_index("model")["area"]
    assert areas["x"] == pytest.approx(0.5)
    assert areas["y"] == pytest.approx(0.5)
    assert list(found[found["method"] == "snip"]["critical_density"])[1] == 0.1


def test_no_cells_make_no_rows() -> None:
    """With the columns that there would be."""
    found = critical_sparsity(cells_of(DENSE).iloc[:0])
    assert len(found) == 0
    assert {"critical_density", "area", "n"} <= set(found.columns)

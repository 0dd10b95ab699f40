"""Ranks over blocks: equal to scipy's, to scikit-posthocs', and to a table done by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from scikit_posthocs import critical_difference_diagram, posthoc_nemenyi_friedman
from scipy import stats

from paibench.leaderboard.stats.cross_track import (
    CrossTrackComparison,
    cliques,
    complete,
    critical_difference,
    cross_track,
    ranks_of,
)
from paibench.leaderboard.stats.summary import TRACK

USUAL = {name: "x" for name in TRACK} | {"protocol": 1, "split": "test", "control": "none"}
DENSITIES = (0.2, 0.1, 0.05)


def cells_of(rows: dict[str, list[float]], **fields: Any) -> pd.DataFrame:
    """Cells of a summary: means by method at falling densities, whole if not said."""
    usual = USUAL | {"accuracy_n": 3, "runs": 3, "not_at_initialization": 0}
    return pd.DataFrame(
        usual
        | {"method": method.partition("(")[0], "method_label": method}
        | {"density_asked": 0.5 / (k + 1), "accuracy_mean": mean}
        | fields
        for method, means in rows.items()
        for k, mean in enumerate(means)
    )


def fixed(methods: int = 6, blocks: int = 12) -> pd.DataFrame:
    """Means of methods that get better by little, with noise; the same at each call."""
    draw = np.random.default_rng(3)
    noise = draw.normal(0, 0.03, (blocks, methods))
    means = (0.6 + 0.02 * np.arange(methods) + noise).round(6)
    return pd.DataFrame(means, columns=[f"m{k}" for k in range(methods)])


def of(means: pd.DataFrame) -> CrossTrackComparison:
    return cross_track(cells_of({str(name): list(means[name]) for name in means}))


def test_ranks_by_hand() -> None:
    """Ranks 1 2 3, 1 3 2, 1.5 1.5 3: means 7/6, 13/6, 16/6; wins are counted by block."""
    found = cross_track(
        cells_of({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.6, 0.7], "c": [0.7, 0.7, 0.6]})
    )
    assert found.mean_rank.to_dict() == pytest.approx({"a": 7 / 6, "b": 13 / 6, "c": 16 / 6})
    assert found.wins.to_numpy().tolist() == [[0, 2, 3], [0, 0, 2], [0, 1, 0]]
    assert found.ties.to_numpy()[0].tolist() == [3, 1, 0]
    expected = [math.nan, 5 / 6, 1]
    assert found.win_fraction.to_numpy()[0] == pytest.approx(expected, nan_ok=True)
    assert (found.n, len(found.blocks), found.left_out, found.reason) == (3, 3, (), "")


def test_means_that_only_rounding_tells_apart_tie() -> None:
    """0.1 + 0.2 is no better than 0.3."""
    found = cross_track(cells_of({"a": [0.1 + 0.2], "b": [0.3]}))
    assert list(found.mean_rank) == [1.5, 1.5]
    assert list(found.ties["a"]) == [1, 1] and not found.wins.to_numpy().any()


def test_critical_difference_by_hand() -> None:
    """The example of Demsar 2006: four classifiers on 14 data sets, 2.569 sqrt(4 * 5 / 84)."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(20 / 84), abs=5e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)


@pytest.mark.parametrize(
    ("methods", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (10, 3.164)],
)
def test_critical_values_are_those_of_the_table(methods: int, q: float) -> None:
    """Table 5 of Demsar 2006, at 0.05, in blocks that make the root 1 over 10."""
    blocks = methods * (methods + 1)
    assert critical_difference(methods, blocks) * math.sqrt(6) == pytest.approx(q, abs=1.1e-3)


def test_ranks_are_scipys() -> None:
    """Of means with ties, block by block."""
    means = fixed().round(2)
    theirs = stats.rankdata(-means.to_numpy(), axis=1)
    assert (theirs % 1 == 0.5).any()
    assert (ranks_of(means).to_numpy() == theirs).all()
    found = of(means)
    expected = dict(zip(means.columns, theirs.mean(axis=0), strict=True))
    assert found.mean_rank.to_dict() == pytest.approx(expected)
    assert list(found.blocks.columns) == sorted(expected, key=lambda name: expected[name])


def test_friedman_is_scipys() -> None:
    """And the chi-square of Demsar's formula where nothing ties."""
    means = fixed()
    found = of(means)
    columns = [means[name] for name in means]
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*columns).pvalue, rel=1e-9)
    k, n = 6, 12
    assert (ranks_of(means) % 1 == 0).all(axis=None)
    ranks = ranks_of(means).mean()
    chi = 12 * n / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4)
    assert found.friedman_p == pytest.approx(stats.chi2.sf(chi, k - 1), rel=1e-9)


def test_critical_difference_tells_apart_what_nemenyi_does() -> None:
    """The pairs whose mean ranks differ by more are those with p < 0.05 in scikit-posthocs."""
    means = fixed()
    found = of(means)
    p = posthoc_nemenyi_friedman(means.to_numpy())
    ranks = found.mean_rank[list(means.columns)].to_numpy()
    apart = np.abs(ranks[:, None] - ranks[None, :]) > found.critical_difference
    assert (apart == (p.to_numpy() < 0.05)).all()
    assert apart.any() and not apart.all()


def test_cliques_are_the_bars_of_scikit_posthocs() -> None:
    """As many bars, from and to the same mean ranks."""
    means = fixed()
    found = of(means)
    p = (
        posthoc_nemenyi_friedman(means.to_numpy())
        .set_axis(means.columns)
        .set_axis(means.columns, axis=1)
    )
    drawn = critical_difference_diagram(found.mean_rank, p)["crossbars"]
    pyplot.close()
    theirs = sorted(sorted(map(float, line.get_xdata())) for [line] in drawn)
    ours = [list(found.mean_rank[list(clique)]) for clique in found.cliques]
    assert ours == theirs
    assert len(ours) > 1


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([1, 2, 3.5, 4], ["ab", "cd"]),
        ([1, 1.5, 2.4, 2.9], ["abc", "bcd"]),
        ([1, 3, 5, 7], []),
        ([1, 1, 1, 1], ["abcd"]),
        ([1, 2.5, 4, 4.5], ["cd"]),
    ],
    ids=["two", "overlapping", "none", "all", "exactly the difference"],
)
def test_cliques_by_hand(ranks: list[float], expected: list[str]) -> None:
    """Runs of methods whose ends differ by less than 1.5, none within another."""
    found = cliques(pd.Series(ranks, index=list("abcd")), 1.5)
    assert ["".join(run) for run in found] == expected


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.integers(2, 6).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 9), min_size=k, max_size=k), min_size=1)
    )
)
def test_ranks_of_a_block_add_up(drawn: list[list[int]]) -> None:
    """To k (k + 1) / 2, and wins, losses and ties of a pair to the number of blocks."""
    means = pd.DataFrame(drawn, columns=[f"m{k}" for k in range(len(drawn[0]))]) / 10
    k = len(means.columns)
    assert ranks_of(means).sum(axis=1).to_numpy() == pytest.approx(k * (k + 1) / 2)
    found = of(means)
    assert (found.wins + found.wins.T + found.ties == len(means)).all(axis=None)
    both = (found.win_fraction + found.win_fraction.T).to_numpy()
    assert both[~np.eye(k, dtype=bool)] == pytest.approx(1)


def test_nothing_is_imputed() -> None:
    """c lacks a run in one block: with c gone there are three of two, without it two of three."""
    cells = cells_of({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.6, 0.7], "c": [0.7, 0.7, 0.6]})
    gap = (cells["method_label"] == "c") & (cells["density_asked"] == 0.25)
    cells.loc[gap, "accuracy_n"] = 2
    found = cross_track(cells)
    assert list(found.blocks.columns) == ["a", "b", "c"]
    assert [block[-1] for block in found.blocks.index] == [0.5 / 3, 0.5]
    assert found.left_out == ("x on x at a sparsity of 75 %: no complete cell of c",)


def test_a_method_that_is_in_few_blocks_is_left_out() -> None:
    """Three methods in six blocks are more cells than four in one."""
    full = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    found = cross_track(cells_of({"a": full, "b": full[::-1], "c": full, "d": [0.9]}))
    assert sorted(found.blocks.columns) == ["a", "b", "c"]
    assert found.left_out == ("d: has all its runs in 1 of 6 blocks",)


def test_three_methods_in_two_blocks_are_better_than_two_in_many() -> None:
    """a and b alone have twenty cells, but there is no test of two."""
    found = cross_track(cells_of({"a": [0.9] * 10, "b": [0.8] * 10, "c": [0.7] * 2}))
    assert found.blocks.shape == (2, 3)
    assert len(found.left_out) == 8


def test_blocks_are_tracks_by_densities() -> None:
    """Two models of three densities are six blocks; n is the least number of runs in them."""
    rows = {"a": [0.9, 0.8, 0.7], "b": [0.8, 0.6, 0.5], "random": [0.7, 0.7, 0.6]}
    parts = [cells_of(rows), cells_of(rows, model="y", accuracy_n=2, runs=2)]
    found = cross_track(pd.concat(parts, ignore_index=True))
    assert len(found.blocks) == 6
    assert found.n == 2
    assert "random" in found.blocks


def test_like_is_compared_with_like() -> None:
    """No dense, no control, nothing elsewhere, not pruned, of an older protocol or validation."""
    rows = {"a": [0.9, 0.8], "b": [0.8, 0.6], "c": [0.7, 0.7]}
    parts = [
        cells_of(rows, protocol=2),
        cells_of({"dense": [0.9, 0.9]}, protocol=2),
        cells_of({"a": [0.9, 0.9]}, protocol=2, control="shuffle"),
        cells_of({"late": [0.9, 0.9]}, protocol=2, not_at_initialization=3),
        cells_of({"a": [0.9]}, protocol=2, density_asked=1.0),
        cells_of(rows, protocol=1),
        cells_of(rows, protocol=2, split="validation"),
    ]
    found = cross_track(pd.concat(parts, ignore_index=True))
    assert sorted(found.blocks.columns) == ["a", "b", "c"]
    assert len(found.blocks) == 2
    assert found.left_out == (
        "late: weights not at initialization in 1 track",
        "1 track of an older protocol",
        "1 track that was not evaluated on a test split",
    )


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"a": [0.9, 0.8], "b": [0.8, 0.7]}, "there are 2 in 2"),
        ({"a": [0.9], "b": [0.8], "c": [0.7]}, "there are 3 in 1"),
        ({"a": [0.9, 0.8], "b": [0.9, 0.8], "c": [0.9, 0.8]}, "all methods are equal"),
        ({}, "there are 0 in 0"),
    ],
    ids=["two methods", "one block", "all equal", "nothing"],
)
def test_no_test_without_a_reason(rows: dict[str, list[float]], reason: str) -> None:
    """Not a number, no cliques, and in words why; ranks and wins are there all the same."""
    found = cross_track(cells_of({"dense": [0.9]} | rows))
    assert math.isnan(found.friedman_p) and math.isnan(found.critical_difference)
    assert found.cliques == ()
    assert reason in found.reason
    assert len(found.mean_rank) == len(found.wins) == len(rows)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=8))
def test_what_is_chosen_is_complete(drawn: list[list[bool]]) -> None:
    """Every chosen cell is there, and no block with all chosen methods is left out."""
    whole = pd.DataFrame(drawn, columns=list("abcde"))
    methods, blocks = complete(whole)
    assert whole.loc[blocks, methods].all(axis=None)
    if methods:
        assert len(blocks) == whole[methods].all(axis=1).sum() > 0
    else:
        assert not whole.any(axis=None)

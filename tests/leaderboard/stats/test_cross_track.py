"""Methods compared over tracks: a table done by hand, and scipy's bootstrap over tracks."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from accuracies import ERK, GRID, board, runs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paibench.leaderboard.stats.cross_track import (
    DRAWS,
    CrossTrackComparison,
    complete,
    cross_track,
    drawn_means,
    mean_ranks,
    win_shares,
)
from paibench.leaderboard.stats.floors import endpoints, grid, measured
from paibench.leaderboard.stats.rank_set import rank_set

USUAL = {"random": 0.6, ERK: 0.7, "snip": 0.8}


def tracks_of(*tracks: dict[str, float], spread: float = 0.0, **fields: Any) -> pd.DataFrame:
    """Runs of tracks m0, m1, ...: an accuracy for each method, at all densities of the grid.

    The three seeds are the accuracy and `spread` below and above it.
    """
    frames = [
        runs_of(
            {
                (label, density): [value - spread, value, value + spread]
                for label, value in track.items()
                for density in GRID
            },
            **{"model": f"m{index}"} | fields,
        )
        for index, track in enumerate(tracks)
    ]
    return pd.concat(frames, ignore_index=True)


def noisy(count: int, seeds: int = 6, **means: float) -> pd.DataFrame:
    """Runs of so many tracks in which all accuracies have noise."""
    frames = [
        runs_of(board(USUAL | means, n=seeds, seed=index), model=f"m{index}")
        for index in range(count)
    ]
    return pd.concat(frames, ignore_index=True)


def labels(comparison: CrossTrackComparison) -> list[str]:
    return sorted(comparison.methods)


# Mean ranks and wins.


def test_mean_ranks_and_wins_by_hand() -> None:
    """Ranks of snip 1 1 1 2 1.5, of random 2 3 3 1 1.5, of its other floor 3 2 2 3 3."""
    table = [(0.9, 0.8, 0.7), (0.9, 0.7, 0.8), (0.9, 0.5, 0.6), (0.6, 0.7, 0.5), (0.8, 0.8, 0.5)]
    found = cross_track(
        tracks_of(*(dict(zip(("snip", "random", ERK), row, strict=True)) for row in table))
    )
    assert list(found.mean_rank["value"]) == pytest.approx([6.5 / 5, 10.5 / 5, 13 / 5])
    assert found.methods == tuple(found.mean_rank.index) == ("snip", "random", ERK)
    expected = {("snip", "random"): 3.5 / 5, ("snip", ERK): 1.0, ("random", ERK): 3 / 5}
    expected |= {(other, one): 1 - share for (one, other), share in expected.items()}
    assert found.wins["value"].to_dict() == pytest.approx(expected)
    assert found.reason == "" and found.left_out == () and found.seeds == (3, 3)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 9), min_size=k, max_size=k), min_size=1)
    )
)
def test_mean_ranks_are_those_of_scipy(drawn: list[list[int]]) -> None:
    """With ties; and the wins of a pair add up to 1."""
    means = np.array(drawn) / 10
    shares = win_shares(means)
    assert mean_ranks(shares) == pytest.approx(stats.rankdata(-means, axis=1).mean(axis=0))
    assert shares + shares.T == pytest.approx(1)


def test_means_that_only_rounding_tells_apart_tie() -> None:
    """0.1 + 0.2 is no better than 0.3."""
    assert win_shares(np.array([[0.1 + 0.2, 0.3]])).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_the_endpoint_of_a_track_is_what_counts() -> None:
    """Better at one density of three by much, at the others by little worse: above."""
    accuracies = {
        ("a", density): [value] * 3 for density, value in zip(GRID, (0.9, 0.4, 0.4), strict=True)
    }
    accuracies |= {("random", density): [0.41] * 3 for density in GRID}
    frames = [runs_of(accuracies, model=f"m{index}") for index in range(5)]
    found = cross_track(pd.concat(frames, ignore_index=True))
    assert found.wins.loc[("a", "random"), "value"] == 1


# The bootstrap.


def test_without_spread_of_seeds_it_is_the_bootstrap_of_scipy() -> None:
    """The same interval of every mean rank and win share, from the same kind of draws of tracks."""
    generator = np.random.default_rng(4)
    means = generator.normal(np.linspace(0, 1, 4), 1, (12, 4))
    drawn = drawn_means([[np.full(3, value) for value in row] for row in means])
    ranks = stats.rankdata(-means, axis=1)
    wins = (means[:, :1] > means[:, 1:]).astype("float64")
    both = np.hstack([mean_ranks(win_shares(drawn)), win_shares(drawn)[:, 0, 1:]])
    ours = np.quantile(both, [0.025, 0.975], axis=0)
    theirs = stats.bootstrap(
        (np.hstack([ranks, wins]),),
        lambda values, axis: np.mean(values, axis=axis),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    # one track more or less in 12 is a step of 0.08 wins, or up to 0.25 ranks
    assert ours == pytest.approx(np.array([theirs.low, theirs.high]), abs=0.13)
    assert ours.mean(axis=1) == pytest.approx(
        [theirs.low.mean(), theirs.high.mean()],
        abs=0.03,
    )


def test_seeds_are_drawn_within_tracks() -> None:
    """The variance of a drawn mean is that of a loop over tracks and seeds, and of the formula."""
    generator = np.random.default_rng(6)
    values = [[generator.normal(track, 2, n)] for track, n in enumerate((2, 3, 5, 8))]
    ours = drawn_means(values).mean(axis=(1, 2))
    loop = []
    for _ in range(4000):
        rows = [values[k][0] for k in generator.integers(4, size=4)]
        loop.append(np.mean([generator.choice(row, len(row)).mean() for row in rows]))
    means = np.array([row[0].mean() for row in values])
    within = np.mean([row[0].var() / len(row[0]) for row in values])
    assert ours.mean() == pytest.approx(means.mean(), abs=0.05)
    assert ours.var() == pytest.approx((means.var() + within) / 4, rel=0.1)
    assert np.quantile(ours, [0.025, 0.975]) == pytest.approx(
        np.quantile(loop, [0.025, 0.975]), abs=0.15
    )
    assert drawn_means(values).shape == (DRAWS, 4, 1)


def test_spread_of_seeds_widens_the_interval() -> None:
    """Two methods that always differ by a little: sure if seeds agree, open if they do not."""
    tracks = [USUAL | {"snip": 0.71}] * 6
    calm, wild = (
        cross_track(tracks_of(*tracks, spread=spread)).wins.loc[[("snip", ERK)]].to_dict("list")
        for spread in (0, 0.1)
    )
    assert calm == {"value": [1], "low": [1], "high": [1]}
    assert wild["value"] == [1] and wild["low"][0] < 0.8


def test_equal_methods_of_five_tracks_seldom_differ() -> None:
    """Only if all five agree is a half outside the interval: 2 of 32 outcomes, 6.25 %."""
    outside = 0
    for outcome in range(32):
        means = [[np.array([0.0]), np.array([2.0 * (outcome >> k & 1) - 1])] for k in range(5)]
        low, high = np.quantile(win_shares(drawn_means(means))[:, 0, 1], [0.025, 0.975])
        outside += not low <= 0.5 <= high
    assert outside == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracks", "spread", "expected"),
    [(5, 0.0, (0.84, 0.79)), (5, 0.5, (0.87, 0.85)), (20, 0.0, (0.92, 0.92))],
)
def test_coverage(tracks: int, spread: float, expected: tuple[float, float]) -> None:
    """The coverage that docs/statistics.md states, of mean ranks and of wins of six methods."""
    generator = np.random.default_rng(1)
    effect = np.linspace(0, 1.5, 6)
    truth = win_shares(effect + generator.normal(0, 1, (400_000, 6)))
    covered: list[tuple[float, float]] = []
    for _ in range(150):
        means = effect + generator.normal(0, 1, (tracks, 6))
        drawn = win_shares(
            drawn_means([[m + spread * generator.normal(0, 1, 5) for m in row] for row in means])
        )
        hits = []
        for values, true in ((mean_ranks(drawn), mean_ranks(truth)), (drawn, truth)):
            low, high = np.quantile(values, [0.025, 0.975], axis=0)
            hits.append((low <= true) & (true <= high))
        off = ~np.eye(6, dtype=bool)
        covered.append((float(hits[0].mean()), float(hits[1][off].mean())))
    assert np.mean(covered, axis=0) == pytest.approx(expected, abs=0.04)


# What is compared.


def test_two_tracks_have_rank_sets_and_nothing_else() -> None:
    """No mean rank, no win, no p: the rank sets of `rank_set`, and the reason."""
    runs = noisy(2)
    found = cross_track(runs)
    assert found.reason == "There are 2 tracks; a comparison across tracks needs 5"
    assert found.mean_rank.empty and found.wins.empty
    assert not [name for name in vars(found) if name.startswith("p") or "friedman" in name]
    order = ["model", "method_label"]
    expected = rank_set(runs)[0].sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(
        found.rank_sets.sort_values(order, ignore_index=True), expected, check_dtype=False
    )
    assert "p" not in found.rank_sets
    assert list(found.tracks.values()) == ["m0 on d", "m1 on d"]


@pytest.mark.parametrize(("count", "reason"), [(1, "is 1 track;"), (4, "are 4 tracks"), (5, "")])
def test_five_tracks_are_needed(count: int, reason: str) -> None:
    """And five are enough."""
    found = cross_track(noisy(count))
    assert reason in found.reason and found.mean_rank.empty == bool(reason)


def test_the_order_of_records_has_no_effect() -> None:
    """Equal to the last bit, intervals too."""
    runs = noisy(6, snap=0.79)
    one, two = (cross_track(runs.sample(frac=1, random_state=k)) for k in (1, 2))
    for name in ("mean_rank", "wins", "rank_sets"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True)
    assert (one.tracks, one.methods, one.left_out) == (two.tracks, two.methods, two.left_out)


def test_a_method_without_a_density_of_the_grid_is_left_out() -> None:
    """Its tracks are too few: three methods in five are more cells than four in three."""
    runs = noisy(5, snap=0.79)
    gap = (runs["method_label"] == "snap") & (runs["density_asked"] == 0.02)
    gap &= runs["model"].isin(["m2", "m3"])
    found = cross_track(runs[~gap])
    assert labels(found) == sorted(USUAL) and len(found.tracks) == 5
    assert found.left_out == (
        "snap: complete in 3 of 5 tracks; m2 on d: fewer than two seeds at a sparsity of 98 %",
    )


def test_a_track_without_a_method_is_left_out() -> None:
    """Four methods in eight tracks are more cells than three in nine."""
    runs = noisy(9, snap=0.79)
    at = (runs["method_label"] == "snap") & (runs["model"] == "m3")
    for gone, reason in (
        (at, "fewer than two seeds at every sparsity (snap)"),
        (at & (runs["seed"] > 0), "fewer than two seeds at every sparsity (snap)"),
        (
            at & ((runs["seed"] < 3) != (runs["density_asked"] == 0.5)),
            "fewer than two seeds that have all sparsities (snap)",
        ),
    ):
        found = cross_track(runs[~gone])
        assert "snap" in found.methods and len(found.tracks) == 8
        assert found.left_out == (f"m3 on d: {reason}",)


def test_a_track_without_random_pruning_is_left_out() -> None:
    """Its densities are the grid, so that no method has an endpoint there."""
    runs = noisy(6)
    found = cross_track(runs[(runs["model"] != "m3") | (runs["method_label"] != "random")])
    assert len(found.tracks) == 5
    assert [line.partition(" (")[0] for line in found.left_out] == [
        "m3 on d: no random pruning, whose sparsities count"
    ]


def test_like_is_compared_with_like() -> None:
    """No dense, control, other configuration, trained weights, older protocol or validation."""
    two = (USUAL, USUAL)
    frames = [
        tracks_of(*two, protocol=3),
        tracks_of({"dense": 0.9, "snip(a=1)": 0.9, "snip(a=2)": 0.9}, protocol=3),
        tracks_of({"snip": 0.9}, protocol=3, control="shuffle"),
        tracks_of({"late": 0.9}, protocol=3, at_initialization=False),
        tracks_of(USUAL, protocol=2),
        tracks_of(USUAL, protocol=3, evaluated_on="validation"),
    ]
    found = cross_track(pd.concat(frames, ignore_index=True))
    assert labels(found) == sorted(USUAL)
    assert {(track.split, track.protocol) for track in found.tracks} == {("test", 3)}
    assert found.left_out == (
        "late: weights not at initialization in 1 track",
        "snip: 2 other configurations",
        "1 track of an older protocol",
        "1 track that was not evaluated on a test split",
    )


def test_names_of_tracks_differ() -> None:
    """A recipe is named only if there are several."""
    frames = [tracks_of(USUAL, recipe=recipe) for recipe in ("short", "long")]
    found = cross_track(pd.concat(frames, ignore_index=True))
    assert list(found.tracks.values()) == ["m0 on d, long", "m0 on d, short"]


@pytest.mark.parametrize("runs", [runs_of({}), runs_of({("dense", 1.0): [0.9, 0.9]})])
def test_nothing_to_compare(runs: pd.DataFrame) -> None:
    """No methods and no tracks, and a reason."""
    found = cross_track(runs)
    assert found.methods == () and not found.tracks and found.rank_sets.empty
    assert found.seeds == (0, 0) and found.reason.startswith("There are 0 tracks")


def test_one_method_is_no_comparison() -> None:
    """Five tracks or not."""
    found = cross_track(tracks_of(*[{"random": 0.6}] * 5))
    assert found.reason == "There is 1 method; a comparison needs two"
    assert found.methods == ("random",) and found.mean_rank.empty


def test_each_endpoint_has_its_seeds() -> None:
    """The n of the rank sets are those of the endpoints, which differ."""
    runs = noisy(5)
    runs = runs[(runs["method_label"] != "snip") | (runs["seed"] < 4)]
    found = cross_track(runs)
    counts = endpoints(measured(runs), grid(runs)).groupby(["model", "method_label"]).size()
    ours = found.rank_sets.set_index(["model", "method_label"])["n"]
    assert ours.to_dict() == counts.to_dict() and found.seeds == (4, 6)


def test_three_methods_in_two_tracks_are_better_than_two_in_many() -> None:
    """a and b alone have twenty cells, but are a single pair."""
    whole = pd.DataFrame({"a": [True] * 10, "b": [True] * 10, "c": [True] * 2 + [False] * 8})
    methods, rows = complete(whole)
    assert (methods, list(rows)) == (["a", "b", "c"], [0, 1])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=8))
def test_what_is_chosen_is_complete(drawn: list[list[bool]]) -> None:
    """Every chosen cell is there, and no track with all chosen methods is left out."""
    whole = pd.DataFrame(drawn, columns=list("abcde"))
    methods, rows = complete(whole)
    assert whole.loc[rows, methods].all(axis=None)
    if methods:
        assert len(rows) == whole[methods].all(axis=1).sum() > 0
    else:
        assert not whole.any(axis=None)

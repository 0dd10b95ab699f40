"""Methods compared across data sets and models: rank sets, mean ranks and wins over tracks.

The unit is the track. The densities of one track share data, network and seeds, so that they are
not evidence of their own: a method has one value in a track, its mean endpoint.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from paibench.leaderboard.format import sparsity_percent
from paibench.leaderboard.stats.floors import endpoints, grid, measured
from paibench.leaderboard.stats.log_odds import ALPHA, Array
from paibench.leaderboard.stats.rank_set import pool, rank_set
from paibench.leaderboard.stats.summary import TRACK, Track

FEWEST_TRACKS = 5
"""With fewer tracks there are no mean ranks and no wins."""
COMPLETE = 2
"""A method is complete in a track if so many seeds or more have an endpoint."""
DRAWS = 2000
_SEED = 0
_DIGITS = 12  # means that agree in these digits are ties: the rest is rounding
_ESTIMATE = ["value", "low", "high"]


@dataclass(frozen=True)
class CrossTrackComparison:
    """The result of `cross_track`. Methods are named by their labels."""

    tracks: Mapping[Track, str]
    """The compared tracks, and names that tell them apart. Not yet escaped."""
    methods: tuple[str, ...]
    """The compared methods: by rising mean rank, or by name if there is a `reason`."""
    rank_sets: pd.DataFrame
    """The rank set of each method in each track, with the columns of `rank_set`."""
    mean_rank: pd.DataFrame
    """Columns `value`, `low` and `high` of each method, 1 is best; empty if there is a `reason`."""
    wins: pd.DataFrame
    """The same columns for each pair of methods: the share of the tracks that the first wins."""
    left_out: tuple[str, ...]
    """One line for each group of runs that is not compared, with the reason. Not yet escaped."""
    reason: str
    """Why there are no mean ranks and no wins; "" if there are."""

    @property
    def seeds(self) -> tuple[int, int]:
        """The least and the largest number of seeds behind an endpoint; 0 without any."""
        counts = self.rank_sets["n"].tolist()
        return min(counts, default=0), max(counts, default=0)


def cross_track(runs: pd.DataFrame) -> CrossTrackComparison:
    """Compare one configuration of each method, see `pool`, by its endpoint in each track.

    Nothing is imputed: `complete` chooses methods and tracks so that no endpoint is missing.
    """
    # Sums of floats and random draws depend on the order, which must not be that of the records.
    order = [*TRACK, "method_label", "control", "density_asked", "seed"]
    runs = runs.sort_values(order, kind="stable", ignore_index=True)
    left_out: list[str] = []
    ranked = _candidates(runs, left_out)
    names, labels = _named(ranked), sorted(ranked["method_label"].unique())
    values, densities = measured(ranked), grid(runs)
    found = endpoints(values, densities).groupby([*TRACK, "method_label"])["log_odds"]
    seeds = {(_track(key[:-1]), str(key[-1])): part.to_numpy() for key, part in found}
    whole = {pair for pair, part in seeds.items() if len(part) >= COMPLETE}
    # The rows are numbered, because pandas reads a tuple as several levels of an index.
    table = [[(track, label) in whole for label in labels] for track in names]
    methods, rows = complete(pd.DataFrame(table, columns=labels, dtype="bool"))
    methods.sort()
    tracks = [list(names)[row] for row in rows]
    gaps = {
        (track, label): reason
        for track, label, reason in _gaps(names, labels, values, densities)
        if (track, label) not in whole
    }
    left_out += _not_chosen(names, labels, methods, tracks, gaps)
    reason = _reason(len(methods), len(tracks))
    mean_rank = wins = pd.DataFrame(columns=_ESTIMATE, dtype="float64")
    if not reason:
        mean_rank, wins = _estimates(
            methods, [[seeds[track, label] for label in methods] for track in tracks]
        )
    sets = rank_set(runs)[0]
    keys = zip(sets[TRACK].itertuples(index=False, name=None), sets["method_label"], strict=True)
    chosen = [_track(key) in tracks and label in methods for key, label in keys]
    return CrossTrackComparison(
        tracks={track: names[track] for track in tracks},
        methods=tuple(methods if reason else mean_rank.index),
        rank_sets=sets[np.array(chosen, dtype="bool")],
        mean_rank=mean_rank,
        wins=wins,
        left_out=tuple(left_out),
        reason=reason,
    )


def complete(whole: pd.DataFrame) -> tuple[list[str], pd.Index]:
    """Return methods (columns) and tracks (rows) of a table of booleans so that all are true.

    Take the first k methods in the order of how many tracks they have, with the tracks that all of
    them have. The k that gives most cells is chosen, if possible with three methods or more in two
    tracks or more.
    """
    order = whole.sum().sort_values(ascending=False, kind="stable").index
    # The product along a row is 1 as long as the track has all methods so far.
    shared = np.cumprod(whole[order].to_numpy(dtype="int64"), axis=1).sum(axis=0)
    best, chosen = (False, False, 0, 0), 0
    for k, tracks in enumerate(shared.tolist(), start=1):
        worth = (k >= 3 and tracks >= 2, k >= 2 and tracks >= 1, k * tracks, k)
        if tracks and worth > best:
            best, chosen = worth, k
    methods = list(order[:chosen])
    return methods, whole.index[whole[methods].all(axis=1)] if methods else whole.index[:0]


# Mean ranks and wins, with their intervals.


def win_shares(means: Array) -> Array:
    """Return the share of the tracks in which each method is above each other, ties as half.

    `means` has the shape (..., tracks, methods), the result (..., methods, methods).
    """
    rounded = means.round(_DIGITS)
    count = means.shape[-1]
    above = np.zeros((*means.shape[:-2], count, count))
    # Track by track, since all comparisons of all draws at once need much memory.
    for track in range(means.shape[-2]):
        own = rounded[..., track, :]
        above += own[..., :, None] > own[..., None, :]
    above /= means.shape[-2]
    # Tracks that are won by neither are half a win of both.
    return np.asarray((above + 1 - np.swapaxes(above, -1, -2)) / 2)


def mean_ranks(shares: Array) -> Array:
    """Return mean ranks (..., methods) from win shares: 1 is best, ties share the mean rank.

    The rank in a track is 1 + the methods above + half of those equal. Each method is a tie with
    itself, which counts as half a win.
    """
    return np.asarray((shares.shape[-1] + 0.5 - shares.sum(axis=-1)).round(_DIGITS))


def drawn_means(endpoints: Sequence[Sequence[Array]]) -> Array:
    """Return bootstrap means of shape (DRAWS, tracks, methods), equal for equal endpoints.

    `endpoints` has, for each track and method, one value per seed. Each draw takes as many tracks
    with replacement, and in each of them, for each method, as many of its seeds.
    """
    generator = np.random.default_rng(_SEED)
    count = len(endpoints)
    drawn = generator.integers(count, size=(DRAWS, count))
    means = np.empty((DRAWS, count, len(endpoints[0])))
    for track, row in enumerate(endpoints):
        here = drawn == track
        times = int(here.sum())
        for method, seeds in enumerate(row):
            chosen = generator.integers(len(seeds), size=(times, len(seeds)))
            means[here, method] = seeds[chosen].mean(axis=1)
    return means


def _estimates(
    methods: list[str], endpoints: Sequence[Sequence[Array]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean ranks and wins, each with the ends of its 95 % percentile interval."""
    shares = win_shares(np.array([[seeds.mean() for seeds in row] for row in endpoints]))
    drawn = win_shares(drawn_means(endpoints))
    ends = [ALPHA / 2, 1 - ALPHA / 2]
    ranks = [mean_ranks(shares), *np.quantile(mean_ranks(drawn), ends, axis=0)]
    mean_rank = pd.DataFrame(np.transpose(ranks), index=methods, columns=_ESTIMATE)
    # A stable sort keeps ties in the order of their names.
    mean_rank = mean_rank.sort_values("value", kind="stable")
    parts = [part.ravel() for part in (shares, *np.quantile(drawn, ends, axis=0))]
    pairs = pd.MultiIndex.from_product([methods, methods], names=["method", "other"])
    wins = pd.DataFrame(np.transpose(parts), index=pairs, columns=_ESTIMATE)
    others = pairs.get_level_values("method") != pairs.get_level_values("other")
    return mean_rank, wins[others]


def _reason(methods: int, tracks: int) -> str:
    if tracks < FEWEST_TRACKS:
        are = "is 1 track" if tracks == 1 else f"are {tracks} tracks"
        return f"There {are}; a comparison across tracks needs {FEWEST_TRACKS}"
    return "There is 1 method; a comparison needs two" if methods < 2 else ""


# What is compared, and what is left out.


def _candidates(runs: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """Return the pruned runs that can be compared, if their methods are complete."""
    ranked: pd.DataFrame = pool(runs)
    own = runs[(runs["control"] == "none") & (runs["method"] != "dense")]
    rest = own.loc[own.index.difference(ranked.index)]
    elsewhere = ~rest["at_initialization"].fillna(True).astype("bool")
    late = elsewhere.groupby([rest[name] for name in [*TRACK, "method_label"]]).transform("any")
    for name, rewound in rest[late].groupby("method_label"):
        left_out.append(f"{name}: weights not at initialization in {_tracks(rewound)}")
    for name, other in rest[~late].groupby("method"):
        count = other["method_label"].nunique()
        left_out.append(f"{name}: {count} other configuration{'' if count == 1 else 's'}")
    ranked = ranked[ranked["density_asked"] < 1]
    # Accuracies of different protocols cannot be compared.
    newest = ranked["protocol"] == ranked["protocol"].max()
    if not newest.all():
        left_out.append(f"{_tracks(ranked[~newest])} of an older protocol")
    ranked = ranked[newest]
    # Test and validation accuracies are measured on different examples.
    tested = ranked["split"].str.startswith("test")
    if tested.any() and not tested.all():
        left_out.append(f"{_tracks(ranked[~tested])} that was not evaluated on a test split")
        ranked = ranked[tested]
    return ranked


def _named(ranked: pd.DataFrame) -> dict[Track, str]:
    """Return each track with its model, data set, and those other fields in which tracks differ."""
    keys = ranked[TRACK].drop_duplicates().sort_values(TRACK).itertuples(index=False, name=None)
    tracks = [_track(key) for key in keys]
    fields = [name for name in TRACK[2:] if len({getattr(track, name) for track in tracks}) > 1]
    return {
        track: ", ".join(
            [f"{track.model} on {track.dataset}", *(str(getattr(track, name)) for name in fields)]
        )
        for track in tracks
    }


def _gaps(
    tracks: Iterable[Track], labels: list[str], values: pd.DataFrame, densities: pd.DataFrame
) -> Iterator[tuple[Track, str, str]]:
    """Yield each track and method with the reason why it is not complete, if it is not."""
    counts = values.groupby([*TRACK, "method_label", "density_asked"])["seed"].nunique().to_dict()
    falling = densities.sort_values("density_asked", ascending=False).groupby(TRACK)
    asked = {_track(key): part["density_asked"].tolist() for key, part in falling}
    for track in tracks:
        all_ = asked.get(track, [])
        for label in labels:
            few = [at for at in all_ if counts.get((*track, label, at), 0) < COMPLETE]
            if not all_:
                reason = "no random pruning, whose sparsities count"
            elif len(few) == len(all_):
                reason = "fewer than two seeds at every sparsity"
            elif few:
                at = ", ".join(map(sparsity_percent, few))
                reason = f"fewer than two seeds at a sparsity of {at}"
            else:
                reason = "fewer than two seeds that have all sparsities"
            yield track, label, reason


def _not_chosen(
    names: Mapping[Track, str],
    labels: list[str],
    methods: list[str],
    tracks: list[Track],
    gaps: Mapping[tuple[Track, str], str],
) -> Iterator[str]:
    """Yield a line for each method and each track that `complete` did not choose."""
    for label in sorted(set(labels).difference(methods)):
        lacking = [track for track in names if (track, label) in gaps]
        line = f"{label}: complete in {len(names) - len(lacking)} of {len(names)} tracks"
        # One example is enough: the pages of the tracks have all results.
        example = [f"{names[track]}: {gaps[track, label]}" for track in lacking[:1]]
        yield "; ".join([line, *example])
    for track in (track for track in names if track not in tracks):
        by_reason: dict[str, list[str]] = {}
        for label in (label for label in methods if (track, label) in gaps):
            by_reason.setdefault(gaps[track, label], []).append(label)
        if by_reason:  # it is empty if there are no methods
            listed = (f"{reason} ({', '.join(these)})" for reason, these in by_reason.items())
            yield f"{names[track]}: {', '.join(listed)}"


def _track(key: Iterable[Any]) -> Track:
    *names, protocol = key
    # an integer of numpy would change the digest of the track
    return Track._make([*names, int(protocol)])


def _tracks(runs: pd.DataFrame) -> str:
    count = len(runs[TRACK].drop_duplicates())
    return f"{count} track{'' if count == 1 else 's'}"

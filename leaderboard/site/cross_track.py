"""The comparison across tracks on the start page: rank sets, mean ranks and a win matrix."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from paibench.benchmark.record import FEWEST_SEEDS
from paibench.leaderboard.format import clean
from paibench.leaderboard.stats.cross_track import DRAWS, CrossTrackComparison
from paibench.leaderboard.stats.floors import FLOORS
from paibench.leaderboard.stats.summary import TRACK
from paibench.leaderboard.tables import Cell, Column, Row, Table, rank_set_text

_READABLE = 40  # the most methods in a matrix that can still be read
_LIMITS = (
    "Few tracks say little about others. Tracks that share data or networks are not independent. "
    "Ranks ignore the size of a difference."
)


class CrossTrackSection(NamedTuple):
    """The section: its result in words, paragraphs, tables, and what is left out."""

    result: str
    paragraphs: tuple[str, ...]
    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


def cross_track_section(
    comparison: CrossTrackComparison, hrefs: Mapping[str, str]
) -> CrossTrackSection:
    """Return the section for a comparison; `hrefs` has the page of each method label."""
    left_out = tuple(map(clean, comparison.left_out))
    if not comparison.methods:
        nothing = "No method has an endpoint of two seeds in any track, so none are compared."
        return CrossTrackSection(nothing, (), (), left_out)
    tables = [_rank_sets(comparison, hrefs)]
    if not comparison.reason:
        tables += [_mean_ranks(comparison, hrefs), _wins(comparison, hrefs)]
    paragraphs = tuple(_paragraphs(comparison))
    return CrossTrackSection(_result(comparison), paragraphs, tuple(tables), left_out)


def _result(comparison: CrossTrackComparison) -> str:
    tracks = _count(len(comparison.tracks), "track")
    if comparison.reason:
        return f"{tracks.capitalize()} are too few for a test, so each has its own ranking."

    def words(name: str, of: str = "") -> str:
        row = comparison.mean_rank.loc[name]
        return f"{row['value']:.1f}{of} ({row['low']:.1f} to {row['high']:.1f})"

    first, of = comparison.methods[0], f" of {len(comparison.methods)}"
    best = f"{first} has the best mean rank over {tracks}, {words(first, of)}"
    # The methods are in the order of mean ranks, so this is the better floor.
    floor = next((name for name in comparison.methods if name in FLOORS), first)
    return clean(f"{best}." if floor == first else f"{best}; {floor} has {words(floor)}.")


def _paragraphs(comparison: CrossTrackComparison) -> Iterator[str]:
    # Several, because a page shows at most 400 characters of a text.
    tracks = comparison.tracks
    floors = set(FLOORS) <= set(comparison.methods)
    least, most = comparison.seeds
    yield (
        f"{_count(len(comparison.methods), 'method')} in one configuration each"
        f"{', both random floors among them,' * floors} on {_count(len(tracks), 'track')} "
        f"({_count(len({track.dataset for track in tracks}), 'data set')}, "
        f"{_count(len({track.model for track in tracks}), 'model')}), "
        f"n = {least if least == most else f'{least} to {most}'} seeds. The value of a method on a "
        "track is its endpoint, the mean of the log-odds of accuracy over the sparsities of the "
        "track. The unit is the track, not the sparsity."
    )
    if comparison.reason:
        yield f"{comparison.reason}, so there are no mean ranks and no test. {_LIMITS}"
        return
    yield (
        f"The 95 % intervals of mean ranks and wins come from {DRAWS:,} draws of tracks, and of "
        "seeds within each drawn track. In simulations with 5 tracks such intervals had the true "
        "value in 79 to 87 % of all cases, so they are too narrow. If all tracks agree, an "
        "interval may have no width, and the next track may still differ."
    )
    yield _LIMITS


def _rank_sets(comparison: CrossTrackComparison, hrefs: Mapping[str, str]) -> Table:
    least, most = comparison.seeds
    usual = least if least == most else None
    cells = {
        (row["method_label"], *(row[name] for name in TRACK)): _rank_set(row, usual)
        for row in comparison.rank_sets.to_dict("records")
    }
    rows = [
        Row(clean(name), hrefs[name], tuple(cells[name, *track] for track in comparison.tracks))
        for name in comparison.methods
    ]
    return Table(
        id="rank-sets",
        title="Rank sets by track",
        caption=(
            "The ranks that a method may have among all methods of the track, by the endpoint, at "
            f"an error of 5 % for each track{f'; n = {usual}' if usual else ''}. With fewer than "
            f"{FEWEST_SEEDS} seeds they are provisional. "
            f"Rows are in order of {'names' if comparison.reason else 'mean ranks'}."
        ),
        head="method",
        columns=tuple(
            Column(f"t{index}", clean(name), spread=True)
            for index, name in enumerate(comparison.tracks.values())
        ),
        rows=tuple(rows),
    )


def _rank_set(row: Mapping[Hashable, Any], usual: int | None) -> Cell:
    best, worst, n = int(row["best_rank"]), int(row["worst_rank"]), int(row["n"])
    parts = ["" if n == usual else f"n = {n}", "provisional" if row["provisional"] else ""]
    detail = ", ".join(filter(None, parts))
    return Cell(rank_set_text(row), detail, value=(best + worst) / 2, low=best, high=worst, n=n)


def _mean_ranks(comparison: CrossTrackComparison, hrefs: Mapping[str, str]) -> Table:
    count = len(comparison.tracks)
    rows = []
    for name, value, low, high in comparison.mean_rank.itertuples(name=None):
        detail = f"{low:.2f} to {high:.2f}, {count} tracks"
        cell = Cell(f"{value:.2f}", detail, value=round(value, 4), n=count)
        rows.append(Row(clean(name), hrefs[name], (cell,)))
    return Table(
        id="mean-ranks",
        title="Mean ranks",
        caption=(
            f"The mean over {count} tracks of the rank by the mean endpoint, among the methods of "
            "this table, with its 95 % interval. 1 is best; equals share the mean of their ranks."
        ),
        head="method",
        columns=(Column("rank", "mean rank", spread=True),),
        rows=tuple(rows),
    )


def _wins(comparison: CrossTrackComparison, hrefs: Mapping[str, str]) -> Table:
    shares = {
        (one, other): (100 * value, 100 * low, 100 * high)
        for (one, other), value, low, high in comparison.wins.itertuples(name=None)
    }
    count = len(comparison.tracks)

    def cell(pair: tuple[str, str]) -> Cell:
        if pair[0] == pair[1]:
            return Cell("·")
        value, low, high = shares[pair]
        return Cell(f"{value:.0f} %", f"{low:.0f} to {high:.0f}", value=round(value, 3), n=count)

    methods = comparison.methods[:_READABLE]
    rows = [
        Row(clean(name), hrefs[name], tuple(cell((name, other)) for other in methods))
        for name in methods
    ]
    return Table(
        id="wins",
        title="Win matrix",
        caption=(
            f"The share of the {count} tracks in which the mean endpoint of the row is above that "
            "of the column, with its 95 % interval; a tie counts as half."
        ),
        head="method",
        columns=tuple(
            Column(f"w{index}", clean(name), spread=True) for index, name in enumerate(methods)
        ),
        rows=tuple(rows),
        cut=len(comparison.methods) if len(comparison.methods) > len(methods) else 0,
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

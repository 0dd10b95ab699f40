"""The figures of a large board, drawn by other processes while this one makes the site."""

import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

from paibench.leaderboard.board import Board
from paibench.leaderboard.figures.build import Figures, Source, draw, source
from paibench.leaderboard.frame.other_process import cores, output_of
from paibench.leaderboard.stats.summary import Track

_MANY = 300  # cells from which other processes pay, which take seconds to start


@contextmanager
def figures(board: Board) -> Iterator[Callable[[Track], Figures]]:
    """Yield a function that returns the figures of a track.

    The figures of a small board are drawn when it is called, those of a large one from now on.
    """

    @cache
    def drawn_here(track: Track) -> Figures:
        return draw(source(board, track))

    tracks = list(board.tracks)
    workers = min(cores(), len(tracks))
    if len(board.cells) < _MANY or workers < 2:
        yield drawn_here
        return
    with ThreadPoolExecutor(workers) as pool:
        futures: dict[Track, Future[dict[Track, Figures]]] = {}
        for first in range(workers):
            share = {track: source(board, track) for track in tracks[first::workers]}
            futures |= dict.fromkeys(share, pool.submit(_drawn_elsewhere, share))
        yield lambda track: futures[track].result().get(track) or drawn_here(track)


def _drawn_elsewhere(sources: dict[Track, Source]) -> dict[Track, Figures]:
    """Return the figures of some tracks, drawn by another process; nothing if that fails."""
    drawn = output_of(__name__, given=pickle.dumps(sources))
    return pickle.loads(drawn) if drawn else {}


if __name__ == "__main__":
    given: dict[Track, Source] = pickle.load(sys.stdin.buffer)
    drawn = {track: draw(each) for track, each in given.items()}
    sys.stdout.buffer.write(pickle.dumps(drawn))

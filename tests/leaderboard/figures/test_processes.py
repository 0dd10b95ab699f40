"""Figures that other processes draw are those that this one would draw."""

import sys
from collections.abc import Callable

import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.board import Board, compute
from paibench.leaderboard.figures import processes
from paibench.leaderboard.figures.build import Figures, Source, draw, source
from paibench.leaderboard.frame.load import Frame, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.summary import Track

RecordFactory = Callable[..., Record]


@pytest.fixture
def board(record_factory: RecordFactory, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board of two tracks, large enough for two other processes."""
    monkeypatch.setattr(processes, "_MANY", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    records = [record_factory(model=model) for model in ("conv-2", "conv-4")]
    return compute(Frame(tabulate(map(row_of, records))))


@pytest.fixture
def drawn_here(monkeypatch: pytest.MonkeyPatch) -> list[Track]:
    """The tracks that this process draws, in place of their figures."""
    tracks: list[Track] = []

    def drawn(source: Source) -> Figures:
        tracks.append(source.track_board.track)
        return Figures({"name": source.track_board.slug.encode()}, [])

    monkeypatch.setattr(processes, "draw", drawn)
    return tracks


def test_other_processes_draw_the_same_bytes(board: Board, drawn_here: list[Track]) -> None:
    """All tracks come back, in any order, and nothing is drawn here."""
    with processes.figures(board) as figures_of:
        drawn = {track: figures_of(track) for track in list(board.tracks)[::-1]}
    assert drawn_here == []
    assert drawn == {track: draw(source(board, track)) for track in board.tracks}
    assert all(figures.files for figures in drawn.values())


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_if_they_fail_the_figures_are_drawn_here(
    board: Board, drawn_here: list[Track], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """A process may be killed because the memory is full."""
    monkeypatch.setattr(sys, "executable", program)
    with processes.figures(board) as figures_of:
        for track in board.tracks:
            assert figures_of(track).files == {"name": track.slug.encode()}
    assert drawn_here == list(board.tracks)


def test_a_small_board_is_drawn_here_once(
    board: Board, drawn_here: list[Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process takes longer to start than the figures of one track to draw."""
    monkeypatch.setattr(processes, "_MANY", len(board.cells) + 1)
    with processes.figures(board) as figures_of:
        for track in [*board.tracks, *board.tracks]:
            assert figures_of(track).files == {"name": track.slug.encode()}
    assert drawn_here == list(board.tracks)

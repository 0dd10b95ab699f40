"""The picture of the distances between masks shows each search once, with equal colours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from paibench.benchmark.record import Record
from paibench.leaderboard.figures.distances import MOST_PANELS, distances, searches, symmetric
from paibench.leaderboard.figures.style import Drawn, svg
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.summary import summarize, tracks

RecordFactory = Callable[..., Record]
ROWS = [[], [0.4], [0.3, 0.1]]


def frame_of(*records: Record) -> pd.DataFrame:
    return tabulate(map(row_of, records))


def drawn(runs: pd.DataFrame) -> Drawn:
    ((track, _),) = tracks(summarize(runs))
    return distances(track, runs)


def test_the_matrix() -> None:
    """It is symmetric with zeros on the diagonal."""
    matrix = symmetric(ROWS)
    assert matrix.tolist() == [[0, 0.4, 0.3], [0.4, 0, 0.1], [0.3, 0.1, 0]]


def test_one_search_of_each_method_and_density(record_factory: RecordFactory) -> None:
    """The one with the lowest seed; controls and searches of one mask are left out."""
    fields: list[dict[str, Any]] = [
        {"seed": 1, "mask_distances": ROWS},
        {"seed": 0, "mask_distances": [[], [0.2]]},
        {"seed": 0, "density": 0.05, "mask_distances": ROWS},
        {"seed": 0, "control": "shuffle", "mask_distances": ROWS},
        {"seed": 0, "method": "random"},
        {"seed": 0, "method": "grasp", "mask_distances": [[]]},
    ]
    runs = frame_of(*(record_factory(**each) for each in fields))
    found = list(searches(runs))
    assert [(each.density, each.seed, len(each.matrix)) for each in found] == [
        (0.1, 0, 2),
        (0.05, 0, 3),
    ]


def test_every_method_comes_before_a_second_density(record_factory: RecordFactory) -> None:
    """The figure has few panels, and a method with many densities must not take all of them."""
    fields = [(m, d) for d in (0.5, 0.2, 0.1) for m in ("snip", "imp")]
    runs = frame_of(
        *(record_factory(method=m, density=d, mask_distances=ROWS) for m, d in reversed(fields))
    )
    assert [(each.density, each.method) for each in searches(runs)] == [
        (d, m) for d in (0.5, 0.2, 0.1) for m in ("imp", "snip")
    ]


def test_the_figure(record_factory: RecordFactory) -> None:
    """A panel for each search with the same range of colours, and equal bytes when drawn again."""
    densities = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
    runs = frame_of(*(record_factory(density=d, mask_distances=ROWS) for d in densities))
    figure = drawn(runs).figure
    assert figure is not None
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == MOST_PANELS
    assert {image.get_clim() for image in images} == {(0, 0.4)}
    assert all(np.array_equal(np.asarray(each.get_array()), symmetric(ROWS)) for each in images)
    again = drawn(runs).figure
    assert again is not None
    assert svg(figure) == svg(again)


def test_no_search_drew_masks(record_factory: RecordFactory) -> None:
    """There is no figure, and no reason is due: most methods draw none."""
    found = drawn(frame_of(record_factory()))
    assert found == Drawn(None)

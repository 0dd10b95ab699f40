"""Published figures are hollow marks beside ours, within our densities, and named in the legend."""

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from paibench.benchmark.record import Record
from paibench.leaderboard.canvas import pdf, svg
from paibench.leaderboard.frame import row_of, tabulate
from paibench.leaderboard.hollow import WORDS
from paibench.leaderboard.looks import looks
from paibench.leaderboard.plot import Measure, curve
from paibench.leaderboard.published import published_for
from paibench.leaderboard.summary import summarize, tracks

RecordFactory = Callable[..., Record]
VGG = {"dataset": "cifar10", "model": "vgg-16"}


def figure_of(*records: Record, measure: Measure = "accuracy", beside: bool = True) -> Figure:
    summary = summarize(tabulate(map(row_of, records)))
    ((track, cells),) = tracks(summary)
    published = published_for(track, cells) if beside else None
    return curve(track, cells, looks(summary["method_label"]), measure, published)


def hollow_of(figure: Figure) -> list[Any]:
    return [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def runs(record_factory: RecordFactory) -> list[Record]:
    """SNIP and a method that nobody published, at 10 % and 1 % of the weights."""
    return [
        record_factory(method=method, density=density, accuracy=0.9, **VGG)
        for method in ("snip", "mine")
        for density in (0.1, 0.01)
    ]


def test_published_figures_stand_at_their_density(runs: list[Record]) -> None:
    """Synaptic-Flow's SNIP at compressions 10 to 100, five of thirteen, and no line for others."""
    (line,) = hollow_of(figure_of(*runs))
    assert list(line.get_xdata()) == pytest.approx([1, 1.25, 1.5, 1.75, 2], abs=1e-6)
    assert line.get_ydata()[0] == pytest.approx(92.3, abs=0.1)
    own = [each for each in figure_of(*runs).axes[0].lines if each.get_label() == "snip"]
    assert line.get_color() == own[0].get_color() and line.get_marker() == own[0].get_marker()


def test_the_legend_names_them_where_there_are_any(runs: list[Record]) -> None:
    """Not where none is asked for, or none is of this measure."""
    assert legend_of(figure_of(*runs)) == ["mine", "snip", WORDS]
    assert legend_of(figure_of(*runs, beside=False)) == ["mine", "snip"]
    assert WORDS not in legend_of(figure_of(*runs, measure="accuracy_untrained"))


def test_they_change_no_mark_of_ours(runs: list[Record]) -> None:
    """Lines, means and the range of the x axis are as without them."""
    with_them, without = figure_of(*runs), figure_of(*runs, beside=False)
    assert with_them.axes[0].get_xlim() == without.axes[0].get_xlim()
    for label in ("snip", "mine"):
        ours, bare = (
            [list(line.get_xydata().ravel()) for line in each.axes[0].lines  # type: ignore[union-attr]
             if line.get_label() == label]
            for each in (with_them, without)
        )  # fmt: skip
        assert ours == bare


def test_bytes_are_a_function_of_the_records(runs: list[Record]) -> None:
    """With published figures as without."""
    assert svg(figure_of(*runs)) == svg(figure_of(*runs))
    assert pdf(figure_of(*runs)) == pdf(figure_of(*runs))

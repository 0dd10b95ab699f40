"""Figures show means, intervals and gaps, and are the same bytes for the same records."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from paibench.benchmark.record import Record
from paibench.leaderboard.figures.accuracy import PUBLISHED as LEGEND
from paibench.leaderboard.figures.accuracy import Measure, curve
from paibench.leaderboard.figures.style import line_styles, pdf, png, svg
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import models, row_of
from paibench.leaderboard.published.load import load, published_for
from paibench.leaderboard.stats.summary import summarize, tracks

RecordFactory = Callable[..., Record]
LOST: dict[str, Any] = {"accuracy": None, "accuracy_untrained": None, "reason": "it was lost"}


def figure_of(*records: Record, measure: Measure = "accuracy") -> Figure:
    """The figure of records that are all of one track."""
    summary = summarize(tabulate(map(row_of, records)))
    ((track, cells),) = tracks(summary)
    return curve(track, cells, line_styles(summary["method_label"]), measure)


def line_of(figure: Figure, label: str) -> Any:
    (found,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return found


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def usual(record_factory: RecordFactory) -> list[Record]:
    """The reference, the floor, and a method that lost all of one density, a run of another."""
    records = [
        record_factory(method=method, density=density, seed=seed, accuracy=top + 0.01 * seed)
        for method, top in {"random": 0.5, "snip": 0.6}.items()
        for density in (0.5, 0.1, 0.01)
        for seed in range(3)
        if method == "random" or density == 0.5 or (density, seed) == (0.01, 0)
    ]
    records += [record_factory(density=0.1, seed=s, status="failed", **LOST) for s in range(3)]
    records += [record_factory(density=0.01, seed=1, status="diverged", **LOST)]
    return [*records, record_factory(method="dense", density=1.0, accuracy=0.9)]


def test_line_goes_through_the_means_and_stops_at_gaps(usual: list[Record]) -> None:
    """Where nothing came out there is no number, so matplotlib draws no line across."""
    np.testing.assert_allclose(line_of(figure_of(*usual), "snip").get_ydata(), [61, np.nan, 60])


def test_gaps_and_losses_are_marked(usual: list[Record]) -> None:
    """A cross for the cell without a result, a hollow marker for the one that lost a run."""
    lines: list[Any] = list(figure_of(*usual).axes[0].lines)
    crosses = [line for line in lines if line.get_marker() == "x" and len(line.get_xdata())]
    hollow = [line for line in lines if line.get_markerfacecolor() == "white"]
    assert [list(np.round(line.get_xdata())) for line in crosses] == [[1.0]]
    assert [list(line.get_ydata()) for line in hollow if len(line.get_ydata())] == [[60.0]]


def test_x_axis_is_log_density_named_by_sparsity(usual: list[Record]) -> None:
    """Dense to the left; a tenth of the weights is one unit of the axis."""
    axes = figure_of(*usual).axes[0]
    np.testing.assert_allclose(axes.get_xticks(), [np.log10(2), 1, 2])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["50 %", "90 %", "99 %"]


def test_dense_is_a_line_across_and_n_is_said(usual: list[Record]) -> None:
    """The legend leads with the reference and the floor and explains the cross."""
    figure = figure_of(*usual)
    assert list(line_of(figure, "dense").get_ydata()) == [90, 90]
    assert legend_of(figure) == ["dense", "random", "snip", "no result"]
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "95 % interval, n = 3" in said


@pytest.fixture
def crowded(record_factory: RecordFactory) -> list[Record]:
    """Four methods just below dense, and one cell of the floor far below with nothing beside."""
    tops = {"random": 0.95, "snip": 0.96, "imp": 0.97, "grasp": 0.965}
    records = [
        record_factory(
            method=method,
            density=density,
            seed=seed,
            accuracy=top + 0.001 * seed,
            test_examples=1_000_000,
        )
        for method, top in tops.items()
        for density in (0.5, 0.1, 0.01)
        for seed in range(2)
        if density != 0.01 or method != "random"
    ]
    records += [record_factory(method="random", density=0.01, seed=s, accuracy=a)
                for s, a in enumerate((0.1, 0.9))]  # fmt: skip
    return [*records, record_factory(method="dense", density=1.0, accuracy=0.98)]


def test_a_crowd_near_dense_is_enlarged_above_the_whole_range(crowded: list[Record]) -> None:
    """Two panels of the same lines and densities under one legend; the upper leaves the rest."""
    figure = figure_of(*crowded)
    upper, lower = figure.axes
    assert upper.get_ylim() == pytest.approx((94.755, 98.295))
    assert lower.get_ylim()[0] == 0 and lower.get_ylim()[1] == 100
    for label in ("random", "snip", "imp", "grasp", "dense"):
        above, below = (
            [line.get_ydata() for line in axes.lines if line.get_label() == label]
            for axes in (upper, lower)
        )
        np.testing.assert_array_equal(above, below)
    assert upper.get_xlim() == lower.get_xlim()
    assert len(figure.legends) == 1
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "Sparsity (log of density)")


def test_bars_without_their_point_are_not_drawn(crowded: list[Record]) -> None:
    """The interval of a mean below the upper panel would cross all of it."""
    drawn = [
        [bar for line in axes.collections for bar in line.get_segments() if len(bar)]  # type: ignore[attr-defined]
        for axes in figure_of(*crowded).axes
    ]
    assert [len(bars) for bars in drawn] == [11, 12]
    assert max(np.ptp(bar[:, 1]) for bar in drawn[0]) < 2


def test_tickets_not_at_initialization_are_signed(record_factory: RecordFactory) -> None:
    """In the legend, and in words above the panel."""
    figure = figure_of(
        record_factory(method="imp", at_initialization=False),
        record_factory(at_initialization=True),
    )
    assert legend_of(figure) == ["snip", "imp‡"]
    assert "‡ not at initialization" in " ".join(text.get_text() for text in figure.axes[0].texts)


def test_controls_are_left_to_the_table(record_factory: RecordFactory) -> None:
    """A figure of four lines a method would not be read."""
    found = figure_of(record_factory(), record_factory(control="shuffle"))
    assert legend_of(found) == ["snip"]


def test_untrained_accuracy_is_a_figure_of_its_own(record_factory: RecordFactory) -> None:
    """Drawn in the same way from another column."""
    records = [record_factory(seed=s, accuracy_untrained=0.3) for s in range(2)]
    found = figure_of(*records, measure="accuracy_untrained")
    assert list(line_of(found, "snip").get_ydata()) == [pytest.approx(30)]
    assert found.axes[0].get_ylabel() == "Accuracy before training (%)"


@pytest.mark.parametrize("method", ["dense", "snip"])
def test_a_lone_run_is_a_figure(record_factory: RecordFactory, method: str) -> None:
    """One seed, one density, with or without a method: no interval, and it says so."""
    figure = figure_of(record_factory(method=method, density=1.0))
    assert "n = 1, so no interval" in " ".join(text.get_text() for text in figure.axes[0].texts)


def test_bytes_are_a_function_of_the_records(usual: list[Record]) -> None:
    """SVG and PNG of the same records are equal byte for byte, whatever was saved before."""
    first, second = figure_of(*usual), figure_of(*usual)
    picture = png(first)
    assert picture.startswith(b"\x89PNG")
    drawing = svg(first)
    assert drawing == svg(second) and picture == png(second)
    assert b"<svg" in drawing and b"<dc:date>" not in drawing


def test_hostile_names_are_drawn_as_they_are(record_factory: RecordFactory) -> None:
    """Mathematics, markup and letters that the font lacks neither fail nor warn."""
    option = r"$\frac{ <b> 中"
    record = record_factory(method={"name": "m", "o": option}, dataset={"name": "d", "o": option})
    figure = figure_of(record)
    assert legend_of(figure) == [r"m(o='$\\frac{ <b> ?')"]
    assert b"<b>" not in svg(figure)


# Published figures: hollow markers beside ours, within our densities, named in the legend.

PUBLISHED = load()
VGG = {"dataset": "cifar10", "model": "vgg-16"}


def figure_beside_published(
    *records: Record, measure: Measure = "accuracy", beside: bool = True
) -> Figure:
    runs = tabulate(map(row_of, records))
    summary = summarize(runs)
    ((track, cells),) = tracks(summary)
    model = models(runs)[track.model]
    published = published_for(track, model, cells, PUBLISHED) if beside else None
    return curve(track, cells, line_styles(summary["method_label"]), measure, published)


def published_lines(figure: Figure) -> list[Any]:
    return [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]


def legend_texts(figure: Figure) -> list[str]:
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
    """SNIP of two sources at compressions 10 to 100, each a line, and no line for others."""
    other, line = published_lines(figure_beside_published(*runs))
    assert sorted(other.get_xdata()) == pytest.approx([1, math.log10(20), 2], abs=1e-6)
    assert list(line.get_xdata()) == pytest.approx([1, 1.25, 1.5, 1.75, 2], abs=1e-6)
    assert line.get_ydata()[0] == pytest.approx(92.3, abs=0.1)
    own = [
        each for each in figure_beside_published(*runs).axes[0].lines if each.get_label() == "snip"
    ]
    assert line.get_color() == own[0].get_color() and line.get_marker() == own[0].get_marker()


def test_the_legend_names_them_where_there_are_any(runs: list[Record]) -> None:
    """Not where none is asked for, or none is of this measure."""
    assert legend_texts(figure_beside_published(*runs)) == ["mine", "snip", LEGEND]
    assert legend_texts(figure_beside_published(*runs, beside=False)) == ["mine", "snip"]
    assert LEGEND not in legend_texts(figure_beside_published(*runs, measure="accuracy_untrained"))


def test_they_change_no_mark_of_ours(runs: list[Record]) -> None:
    """Lines, means and the range of the x axis are as without them."""
    with_them, without = (
        figure_beside_published(*runs),
        figure_beside_published(*runs, beside=False),
    )
    assert with_them.axes[0].get_xlim() == without.axes[0].get_xlim()
    for label in ("snip", "mine"):
        ours, bare = (
            [list(line.get_xydata().ravel()) for line in each.axes[0].lines  # type: ignore[union-attr]
             if line.get_label() == label]
            for each in (with_them, without)
        )  # fmt: skip
        assert ours == bare


def test_published_figures_give_equal_bytes(runs: list[Record]) -> None:
    """With published figures as without."""
    assert svg(figure_beside_published(*runs)) == svg(figure_beside_published(*runs))
    assert pdf(figure_beside_published(*runs)) == pdf(figure_beside_published(*runs))

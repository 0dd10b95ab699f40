"""Accuracy against cost: the front is who no other beats, and searches without data stand at 0."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.benchmark.record import Record
from paibench.leaderboard.figures.cost import cost
from paibench.leaderboard.figures.style import Drawn, line_styles, svg
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.pareto import pareto
from paibench.leaderboard.stats.summary import summarize, tracks

RecordFactory = Callable[..., Record]
FEW = st.sampled_from([0.1, 0.2, 0.3, np.nan])
CELL = st.tuples(FEW, st.sampled_from([0.1, 0.5]), st.sampled_from([0.0, 1.0, 2.0, np.nan]),
                 st.integers(0, 2))  # fmt: skip


def cells_of(rows: list[tuple[float, float, float, int]]) -> pd.DataFrame:
    """Cells by accuracy, density, cost and how many of two runs have an accuracy."""
    names = ["accuracy_mean", "density_asked", "search_epochs", "accuracy_n"]
    return pd.DataFrame(rows, columns=names).assign(runs=2)


def beaten(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """The definition: the other is nowhere worse, and better in one."""
    no_worse = other[0] >= one[0] and other[1] <= one[1] and other[2] <= one[2]
    return no_worse and (other[0] > one[0] or other[1] < one[1] or other[2] < one[2])


@given(st.lists(CELL, max_size=12))
def test_front_is_that_of_the_definition(rows: list[tuple[float, float, float, int]]) -> None:
    """Over all pairs; what lacks a number or a run is not on it and beats none."""
    fit = [row[3] == 2 and not np.isnan(row[:3]).any() for row in rows]
    able = [row for row, each in zip(rows, fit, strict=True) if each]
    expected = [
        each and not any(beaten(row, other) for other in able)
        for row, each in zip(rows, fit, strict=True)
    ]
    assert list(pareto(cells_of(rows))) == expected


def test_front_by_hand() -> None:
    """Cheap, sparse and accurate ones stay; who is as accurate for more does not."""
    rows = [(0.9, 0.1, 0.0, 2), (0.95, 0.1, 5.0, 2), (0.95, 0.1, 6.0, 2), (0.9, 0.05, 6.0, 2)]
    assert list(pareto(cells_of(rows))) == [True, True, False, True]


def drawn(*records: Record, density: float | None = None) -> Drawn:
    summary = summarize(tabulate(map(row_of, records)))
    ((track, cells),) = tracks(summary)
    return cost(track, cells, line_styles(summary["method_label"]), density)


@pytest.fixture
def usual(record_factory: RecordFactory) -> list[Record]:
    """A free floor, a cheap method, a dear one, and one whose weights are from elsewhere."""
    chosen = {"random": (0.5, 0.0), "snip": (0.7, 0.002), "grasp": (0.6, 0.004), "imp": (0.9, 50.0)}
    records = [
        record_factory(method=m, seed=s, accuracy=a + s / 100, search_epochs=c,
                       at_initialization=m != "imp")
        for m, (a, c) in chosen.items()
        for s in (0, 1)
    ]  # fmt: skip
    return [*records, record_factory(method="dense", density=1.0, search_epochs=0.0)]


def test_points_and_front(usual: list[Record]) -> None:
    """What costs nothing stands left of all; the front is of tickets at initialization."""
    figure = drawn(*usual).figure
    assert figure is not None
    (axes,) = figure.axes
    lines: list[Any] = list(axes.lines)
    points = {line.get_label(): line for line in lines if not line.get_label().startswith("_")}
    assert set(points) == {"random", "snip", "grasp", "imp‡"}
    assert list(points["imp‡"].get_ydata()) == [pytest.approx(90.5)]
    left = points["random"].get_xdata()[0]
    assert left < 0.002 and axes.get_xticks()[0] == left
    assert axes.get_xticklabels()[0].get_text() == "0"
    (rings,) = [line for line in lines if line.get_markersize() == 10]
    assert list(rings.get_ydata()) == pytest.approx([50.5, 70.5])
    assert "90 % sparsity" in axes.texts[0].get_text() and "n = 2" in axes.texts[0].get_text()


def test_only_free_searches_are_a_figure(record_factory: RecordFactory) -> None:
    """No power of ten is needed for it."""
    assert drawn(record_factory(method="random", search_epochs=0.0)).figure is not None


@pytest.mark.parametrize("epochs", [0.0, 10.0])
def test_searches_that_all_cost_the_same(record_factory: RecordFactory, epochs: float) -> None:
    """They stand above each other, without a warning."""
    ours = [
        record_factory(method=method, seed=seed, search_epochs=epochs)
        for method in ("random", "snip", "grasp")
        for seed in (0, 1)
    ]
    figure = drawn(*ours).figure
    assert figure is not None
    points = [line for line in figure.axes[0].lines if line.get_label() in ("random", "snip")]
    assert len({float(np.asarray(line.get_xdata())[0]) for line in points}) == 1


@pytest.mark.parametrize("epochs", [5e-324, 1e-300, 1e-9, 9e8, 1e300])
def test_costs_that_no_search_has_are_drawn(record_factory: RecordFactory, epochs: float) -> None:
    """A false record spoils no figure: few ticks, a finite axis."""
    figure = drawn(record_factory(search_epochs=epochs), record_factory(method="random")).figure
    assert figure is not None
    assert len(figure.axes[0].get_xticks()) <= 10
    assert np.isfinite(figure.axes[0].get_xlim()).all()


@pytest.mark.parametrize(
    "fields",
    [{"search_epochs": None}, {"control": "shuffle"}, {"method": "dense", "density": 1.0}],
    ids=["no cost", "a control", "the reference"],
)
def test_nothing_to_draw_has_a_reason(
    record_factory: RecordFactory, fields: dict[str, Any]
) -> None:
    """No figure, and a sentence."""
    found = drawn(record_factory(**fields))
    assert found.figure is None and "sparsity has accuracy and cost" in found.reason


def test_bytes_are_a_function_of_the_records(usual: list[Record]) -> None:
    """Drawn twice, the same."""
    first, second = drawn(*usual).figure, drawn(*usual).figure
    assert first and second and svg(first) == svg(second)

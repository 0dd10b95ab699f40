"""The profile of layers shows the mean density of each, and what is emptied."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.figures.layers import layer_densities, profiles
from paibench.leaderboard.figures.style import Drawn, line_styles, svg
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.summary import summarize, tracks

RecordFactory = Callable[..., Record]
NAMES, SIZES = ["a.weight", "b.weight"], [100, 300]


def frame_of(*records: Record) -> pd.DataFrame:
    return tabulate(map(row_of, records))


def drawn(*records: Record, density: float = 0.1) -> Drawn:
    runs = frame_of(*records)
    ((track, _),) = tracks(summarize(runs))
    return profiles(track, runs, line_styles(runs["method_label"]), density)


def layered_frame(factory: RecordFactory, rows: list[tuple[str, int, list[int]]]) -> pd.DataFrame:
    """Runs of methods and seeds with these kept weights; the record's own density is reached."""
    runs = frame_of(*(factory(method=method, seed=seed) for method, seed, _ in rows))
    runs["layer_names"] = [NAMES] * len(rows)
    runs["layer_sizes"] = [SIZES] * len(rows)
    runs["layer_kept"] = [kept for _, _, kept in rows]
    return runs


def test_mean_lowest_and_highest_of_each_layer(record_factory: RecordFactory) -> None:
    """Kept over size, by hand."""
    runs = layered_frame(record_factory, [("snip", 0, [10, 30]), ("snip", 1, [20, 0])])
    found = layer_densities(runs).set_index("layer")
    assert list(found.loc["a.weight", ["n", "mean", "low", "high"]]) == pytest.approx(
        [2, 0.15, 0.1, 0.2]
    )
    assert list(found.loc["b.weight", ["n", "mean", "low", "high"]]) == pytest.approx(
        [2, 0.05, 0, 0.1]
    )
    assert list(found["place"]) == [0, 1]


def test_runs_of_other_layers_or_none_are_left_out(record_factory: RecordFactory) -> None:
    """They would be averaged with what is not the same layer."""
    runs = layered_frame(record_factory, [("snip", s, [10, 30]) for s in range(4)])
    runs["layer_names"] = pd.Series([NAMES, ["x", "y"], [], None], dtype="object")
    assert set(layer_densities(runs)["n"]) == {1}
    assert layer_densities(runs.iloc[2:]).empty


def test_the_figure_has_a_line_per_method(record_factory: RecordFactory) -> None:
    """In percent, in the order of the layers, beside the density of the network."""
    found = drawn(*(record_factory(method=m, seed=s) for m in ("snip", "random") for s in (0, 1)))
    assert found.figure is not None and found.reason == ""
    (axes,) = found.figure.axes
    lines: list[Any] = list(axes.lines)
    (line,) = [line for line in lines if line.get_label() == "snip"]
    assert list(line.get_ydata()) == pytest.approx([10, 10, 10])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["fc1", "fc2", "fc3"]
    assert "90 % sparsity" in axes.texts[0].get_text() and "n = 2" in axes.texts[0].get_text()


def test_an_emptied_layer_is_a_cross(record_factory: RecordFactory) -> None:
    """A logarithm has no zero, so the line breaks there."""
    runs = layered_frame(record_factory, [("snip", 0, [0, 40])])
    ((track, _),) = tracks(summarize(runs))
    found = profiles(track, runs, line_styles(runs["method_label"]), 0.1)
    assert found.figure is not None
    lines: list[Any] = list(found.figure.axes[0].lines)
    assert [len(line.get_xdata()) for line in lines if line.get_marker() == "x"] == [1]


@pytest.mark.parametrize(
    ("fields", "density"),
    [({"method": "dense", "density": 1.0}, 1.0), ({"control": "shuffle"}, 0.1), ({}, 0.5)],
    ids=["dense", "control", "another density"],
)
def test_nothing_to_draw_has_a_reason(
    record_factory: RecordFactory, fields: dict[str, Any], density: float
) -> None:
    """The reference and controls have no profile of a method."""
    found = drawn(record_factory(**fields), density=density)
    assert found.figure is None and "records what each layer keeps" in found.reason


def test_bytes_are_a_function_of_the_records(record_factory: RecordFactory) -> None:
    """Hostile names included."""
    records = [record_factory(method={"name": "m", "o": r"$\frac{ <b> 中"}), record_factory()]
    first, second = drawn(*records), drawn(*records)
    assert first.figure and second.figure and svg(first.figure) == svg(second.figure)
    assert b"<b>" not in svg(first.figure)

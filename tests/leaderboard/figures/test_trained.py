"""Trained against untrained accuracy over the fraction kept, of supermasks where there are any."""

from collections.abc import Callable
from typing import Any

import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.figures.style import Drawn, line_styles, svg
from paibench.leaderboard.figures.trained import trained
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.summary import summarize, tracks

RecordFactory = Callable[..., Record]


def drawn(*records: Record) -> Drawn:
    summary = summarize(tabulate(map(row_of, records)))
    ((track, cells),) = tracks(summary)
    return trained(track, cells, line_styles(summary["method_label"]))


def lines_of(found: Drawn, color: Any = None) -> list[tuple[list[float], list[float]]]:
    assert found.figure is not None
    return [
        ([round(x, 6) for x in line.get_xdata()], [round(y, 6) for y in line.get_ydata()])  # type: ignore[union-attr, arg-type]
        for line in found.figure.axes[0].lines
    ]


def legend_of(found: Drawn) -> list[str]:
    assert found.figure is not None
    return [text.get_text() for text in found.figure.legends[0].get_texts()]


@pytest.fixture
def usual(record_factory: RecordFactory) -> list[Record]:
    """A supermask that is better untrained with more weights, SNIP, and the reference."""
    records = [
        record_factory(method="zhou", density=d, accuracy=0.9, accuracy_untrained=d,
                       native_accuracy=0.8, native_density=0.5)
        for d in (0.1, 0.5)
    ]  # fmt: skip
    dense = record_factory(method="dense", density=1.0, accuracy=0.95)
    return [*records, record_factory(method="snip"), dense]


def test_both_accuracies_over_the_fraction_kept(usual: list[Record]) -> None:
    """In percent on both axes; the reference is a line across."""
    found = lines_of(drawn(*usual))
    assert ([10, 50], [90, 90]) in found and ([10, 50], [10, 50]) in found
    assert ([0, 1], [95, 95]) in found


def test_supermasks_alone_where_there_are_any(
    usual: list[Record], record_factory: RecordFactory
) -> None:
    """edge_popup is one without a native accuracy; without any, all methods are drawn."""
    assert legend_of(drawn(*usual)) == ["dense", "zhou", "trained", "untrained"]
    assert "edge_popup" in legend_of(drawn(*usual, record_factory(method="edge_popup")))
    assert "snip" in legend_of(drawn(record_factory()))


def test_without_training_lost_the_untrained_line_stays(record_factory: RecordFactory) -> None:
    """A run that diverged has no accuracy but had one before."""
    lost = {"status": "diverged", "reason": "loss is not a number", "accuracy": None}
    found = drawn(record_factory(method="zhou", accuracy_untrained=0.3, **lost))
    assert ([10], [30]) in lines_of(found)


@pytest.mark.parametrize("fields", [{"accuracy_untrained": None}, {"control": "reinit"}])
def test_nothing_to_draw_has_a_reason(
    record_factory: RecordFactory, fields: dict[str, Any]
) -> None:
    """No figure, and a sentence."""
    found = drawn(record_factory(**fields))
    assert found.figure is None and "accuracy before training" in found.reason


def test_bytes_are_a_function_of_the_records(usual: list[Record]) -> None:
    """Drawn twice, the same."""
    first, second = drawn(*usual).figure, drawn(*usual).figure
    assert first and second and svg(first) == svg(second)

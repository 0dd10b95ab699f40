"""Accuracy against width: tracks that differ in width alone, at one density or one count."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.spec import Named
from paibench.leaderboard.figures.style import Drawn, line_styles, svg
from paibench.leaderboard.figures.width import at_kept, family, widths
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import label, row_of
from paibench.leaderboard.stats.summary import Track, summarize, tracks

RecordFactory = Callable[..., Record]
LAYERS: dict[float, int] = {0.5: 2_000, 1.0: 8_000, 2.0: 32_000}
TRACK = Track("digits", "conv-4", "lite", "kaiming_normal", "test", PROTOCOL)
WIDTHS = [{"name": "conv-4", "width": width} for width in (0.5, 2.0)]
MODELS = {
    label(model): model
    for model in map(Named.model_validate, ["conv-4", "conv-6", "lenet-300-100", *WIDTHS])
}


def run(factory: RecordFactory, width: float, density: float, **fields: Any) -> Record:
    """A run of conv-4 with one layer, whose weights grow with the square of the width."""
    total = LAYERS[width]
    model: dict[str, Any] = {"name": "conv-4"} | ({"width": width} if width != 1 else {})
    record = factory(model=model, density=density, accuracy=0.5 + width / 10, **fields)
    kept = round(density * total)
    plain = record.plain() | {
        "prunable": total,
        "kept": kept,
        "density": kept / total,
        "layer_names": ["c"],
        "layer_sizes": [total],
        "layer_kept": [kept],
    }
    return Record.read(plain)


@pytest.fixture
def summary(record_factory: RecordFactory) -> pd.DataFrame:
    """SNIP at three widths, at 10 % of the weights and as many as 800; and what is no kin."""
    cells = [(0.5, 0.1), (1.0, 0.1), (2.0, 0.1), (0.5, 0.4), (2.0, 0.025)]
    records = [run(record_factory, *cell, seed=s) for cell in cells for s in (0, 1)]
    records += [run(record_factory, 2.0, 0.1, recipe="smoke")]
    records += [record_factory(model="conv-6"), record_factory(model="lenet-300-100")]
    return summarize(tabulate(map(row_of, records)))


def drawn(summary: pd.DataFrame, track: Track = TRACK, density: float = 0.1) -> Drawn:
    return widths(summary, track, MODELS, line_styles(summary["method_label"]), density)


def test_kin_differ_in_width_alone(summary: pd.DataFrame) -> None:
    """Another recipe or another network is another experiment."""
    found = family(summary, TRACK, MODELS)
    assert set(found["width"]) == {0.5, 1.0, 2.0}
    assert set(found["recipe"]) == {"lite"} and len(found) == 5
    assert set(family(summary, TRACK._replace(model="conv-4(width=2.0)"), MODELS)["width"]) == {
        0.5,
        1,
        2,
    }


def test_kept_weights_are_counted(summary: pd.DataFrame) -> None:
    """10 % of 8,000 are 800, as are 40 % of 2,000 and 2.5 % of 32,000."""
    found = at_kept(family(summary, TRACK, MODELS), 800)
    assert list(found.sort_values("width")["density_asked"]) == [0.4, 0.1, 0.025]
    assert at_kept(family(summary, TRACK, MODELS), 850).empty
    assert len(at_kept(family(summary, TRACK, MODELS), 835)) == 3


@pytest.mark.parametrize("width", [-1.0, 0.0, 1e300, "wide"])
def test_a_width_that_no_network_has_is_left_out(
    record_factory: RecordFactory, summary: pd.DataFrame, width: float | str
) -> None:
    """A record may say anything; a logarithm takes only numbers above 0."""
    false = Named(name="conv-4", options={"width": width})
    row = row_of(record_factory(model=false.to_plain()))
    with_false = pd.concat([summary, summarize(tabulate([row]))], ignore_index=True)
    assert len(family(with_false, TRACK, MODELS | {label(false): false})) == len(
        family(summary, TRACK, MODELS)
    )


def test_both_panels(summary: pd.DataFrame) -> None:
    """At the left the density, at the right the number of weights; widths on both axes."""
    figure = drawn(summary).figure
    assert figure is not None
    for axes in figure.axes:
        lines: list[Any] = list(axes.lines)
        (line,) = [line for line in lines if len(line.get_xdata()) == 3]
        assert list(line.get_xdata()) == [0.5, 1, 2]
        assert list(line.get_ydata()) == pytest.approx([55, 60, 70])
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.5", "1", "2"]
    left, right = (axes.texts[0].get_text() for axes in figure.axes)
    assert "at 90 % sparsity" in left and "n = 2" in left
    assert "with 800 kept weights" in right


def test_one_width_is_no_figure(summary: pd.DataFrame) -> None:
    """A reason instead; dense alone at several widths is none either."""
    for track, density in ((TRACK._replace(model="conv-6"), 0.1), (TRACK, 0.7)):
        found = drawn(summary, track, density)
        assert found.figure is None and "at two widths or more" in found.reason


def test_before_training(record_factory: RecordFactory) -> None:
    """Supermasks with the accuracy before training, dense with that after it, nothing else."""
    fields = {"accuracy_untrained": 0.3}
    records = [
        run(record_factory, width, density, method=method, **fields)
        for width in (0.5, 1.0, 2.0)
        for method, density in (("edge_popup", 0.1), ("snip", 0.1), ("dense", 1.0))
    ]
    cells = summarize(tabulate(map(row_of, records)))
    styles = line_styles(cells["method_label"])
    figure = widths(cells, TRACK, MODELS, styles, 0.1, "accuracy_untrained").figure
    assert figure is not None
    lines: list[Any] = list(figure.axes[0].lines)
    assert {line.get_label(): list(line.get_ydata()) for line in lines} == {
        "edge_popup": pytest.approx([30, 30, 30]),
        "dense, trained": pytest.approx([55, 60, 70]),
    }


def test_bytes_are_a_function_of_the_records(summary: pd.DataFrame) -> None:
    """Drawn twice, the same."""
    first, second = drawn(summary).figure, drawn(summary).figure
    assert first and second and svg(first) == svg(second)
    assert {name for name, _ in tracks(summary)} >= {TRACK}

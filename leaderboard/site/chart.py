"""The interactive chart of a track as Vega-Lite, and the one script that draws it offline.

Vega usually compiles expressions with `eval`, which the policy of the pages forbids. The script
includes the interpreter of Vega, which evaluates the parsed expressions instead (`ast` in
assets/chart.js).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from paibench.leaderboard.figures.style import LineStyle, line_styles, zoom
from paibench.leaderboard.format import clean, number, sparsity_percent
from paibench.leaderboard.stats import ranking
from paibench.leaderboard.tables import densities

_LINES = 40  # more cannot be told apart
_LABELS = 12  # ticks of the x axis
_PUBLISHED = "published"
_PUBLISHED_TOOLTIP = {
    "method": "method",
    "sparsity": "sparsity",
    "accuracy": "published",
    "n": "n",
    "source": "source",
    "differs": "their protocol",
}
_FILTER = "kind == 'all' || datum.kind == kind"


@cache
def runtime() -> bytes:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    # Inside a function, because the bundle declares names such as `n`, which would be global.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its snippet is optional
    return f"(() => {{\n{bundle}\n}})();\n".encode()


def drawn(cells: pd.DataFrame) -> tuple[list[str], int]:
    """Return the rows of a track that the chart draws, and how many rows have an accuracy."""
    with_accuracy = set(cells.loc[cells["accuracy_n"] > 0, "row"])
    names = [name for name in ranking.ranked(cells) if name in with_accuracy]
    return names[:_LINES], len(names)


def chart(cells: pd.DataFrame, figures: pd.DataFrame | None = None) -> dict[str, Any] | None:
    """Return accuracy against sparsity as Vega-Lite, or None if no cell has an accuracy.

    `cells` have the column `row`. A tooltip has mean, interval and n; a click in the legend
    highlights a line; the signal `kind` shows a class of rows alone. `figures`, rows of
    `published_for`, are drawn as hollow diamonds.
    """
    names, _ = drawn(cells)
    values = list(_values(cells, names))
    if not values:
        return None
    styles = line_styles(cells["method_label"])
    label_of = dict(zip(cells["row"], cells["method_label"], strict=True))
    labels = [clean(name) for name in names]
    colors = [_hex(styles[label_of[name]]) for name in names]
    selected = alt.selection_point(name="picked", fields=["method"], bind="legend", toggle="true")
    kind = alt.param(name="kind", value="all")
    x = alt.X(
        "density:Q",
        title="sparsity",
        scale=alt.Scale(type="log", reverse=True, nice=False),
        axis=_axis(cells),
    )
    y = alt.Y("mean:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    color = alt.Color(
        "method:N",
        scale=alt.Scale(domain=labels, range=colors),
        sort=labels,
        legend=alt.Legend(title=None, symbolLimit=_LINES, labelLimit=260),
    )
    dash = alt.StrokeDash(
        "kind:N",
        legend=None,
        scale=alt.Scale(domain=["ranked", "elsewhere", "controls"], range=[[1, 0], [6, 3], [2, 3]]),
    )
    opacity = alt.condition(selected, alt.value(1.0), alt.value(0.08))
    tooltip = [
        alt.Tooltip(f"{name}:N", title=name)
        for name in ("method", "sparsity", "accuracy", "n", "lost")
    ]
    everything = alt.Chart()
    base = everything.transform_filter(_FILTER)
    line = base.mark_line(strokeWidth=2).encode(x, y, color, strokeDash=dash, opacity=opacity)
    bars = base.mark_rule(strokeWidth=1.2).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), color, opacity=opacity
    )
    points = base.mark_circle(size=70).encode(x, y, color, opacity=opacity, tooltip=tooltip)
    dense = everything.transform_filter("datum.method == 'dense'")
    rule = dense.mark_rule(strokeDash=[6, 4]).encode(y, color, opacity=opacity)
    diamonds = _published_layers(values, figures, x, color, opacity)
    layered = alt.layer(
        line.add_params(kind),
        bars,
        points.add_params(selected),
        rule,
        *diamonds,
        data=alt.InlineData(values),
    )
    sized = layered.properties(width="container", height=360, background="transparent")
    spec: dict[str, Any] = sized.to_dict()
    # Altair numbers its layers across the process. The same records must give the same bytes.
    for index, layer in enumerate(spec["layer"]):
        layer["name"] = f"layer_{index}"
    for param in spec.get("params", []):
        if "views" in param:
            param["views"] = ["layer_2"]
    return spec


def has_published(spec: Mapping[str, Any]) -> bool:
    """Return whether a chart shows published figures."""
    return any("shape" in layer["encoding"] for layer in spec["layer"])


def enlarged(cells: pd.DataFrame) -> list[float] | None:
    """Return the range of accuracies, in percent, with most of the means, if it is a small one."""
    own = cells[(cells["accuracy_n"] > 0) & (cells["control"] == "none")]
    is_dense = own["method"] == "dense"
    means = 100 * own["accuracy_mean"]
    span = zoom(means[~is_dense], means[is_dense])
    return None if span is None else [round(end, 2) for end in span]


def _values(cells: pd.DataFrame, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the data of each point of our own results."""
    drawn_cells = cells[cells["row"].isin(names) & (cells["accuracy_n"] > 0)]
    rewound = ranking.rewound_rows(cells)
    for cell in drawn_cells.to_dict("records"):
        lost = int(cell["runs"]) - int(cell["accuracy_n"])
        kind = "elsewhere" if cell["row"] in rewound else "ranked"
        yield {
            "method": clean(cell["row"]),
            "kind": kind if cell["control"] == "none" else "controls",
            **_point(
                cell["density_asked"],
                cell["accuracy_mean"],
                cell["accuracy_low"],
                cell["accuracy_high"],
            ),
            "n": int(cell["accuracy_n"]),
            "lost": f"{lost} of {int(cell['runs'])} runs" if lost else "none",
        }


def _point(density: float, mean: float, low: Any, high: Any) -> dict[str, Any]:
    """Return position and interval of a mean, in percent; the ends may be NaN."""
    ends = [100 * end for end in (number(low), number(high)) if end is not None]
    return {
        "density": density,
        "sparsity": sparsity_percent(density),
        "mean": round(100 * mean, 4),
        "low": round(min(ends, default=100 * mean), 4),
        "high": round(max(ends, default=100 * mean), 4),
        "accuracy": f"{100 * mean:.2f} %" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""),
    }


def _published_layers(
    values: list[dict[str, Any]],
    figures: pd.DataFrame | None,
    x: alt.X,
    color: alt.Color,
    opacity: Any,
) -> list[alt.Chart]:
    """Return hollow diamonds, their intervals and a legend entry; none without figures."""
    published = [] if figures is None else list(_published_values(values, figures))
    if not published:
        return []
    base = alt.Chart(alt.InlineData(published)).transform_filter(_FILTER)
    legend = alt.Legend(
        title=None,
        symbolFillColor="transparent",
        symbolStrokeColor="#808080",
        labelLimit=260,
    )
    shape = alt.Shape(
        "whose:N", scale=alt.Scale(domain=[_PUBLISHED], range=["diamond"]), legend=legend
    )
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in _PUBLISHED_TOOLTIP.items()]
    bars = base.mark_rule(strokeWidth=1, strokeDash=[1, 2]).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), color, opacity=opacity
    )
    diamonds = base.mark_point(size=90, filled=False, strokeWidth=1.6).encode(
        x, alt.Y("mean:Q"), color, shape, opacity=opacity, tooltip=tooltip
    )
    return [bars, diamonds]


def _published_values(
    values: list[dict[str, Any]], figures: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """Yield the published figures of drawn rows within the drawn densities."""
    kinds = {value["method"]: value["kind"] for value in values}
    drawn_densities = [value["density"] for value in values]
    # Figures outside our range would stretch the axis and shrink our own lines.
    near = figures["density"].between(min(drawn_densities), max(drawn_densities))
    near &= figures["measure"] == "accuracy"
    near &= figures["method_label"].isin(list(kinds))
    for each in figures[near].to_dict("records"):
        yield {
            "method": clean(each["method_label"]),
            "kind": kinds[each["method_label"]],
            **_point(each["density"], each["accuracy"], each["low"], each["high"]),
            "n": "not stated" if pd.isna(each["n"]) else str(int(each["n"])),
            "source": f"{clean(each['source'])} ({clean(each['kind'])})",
            "differs": clean(each["differs"]) or "no difference is stated",
            "whose": _PUBLISHED,
        }


def _axis(cells: pd.DataFrame) -> alt.Axis:
    """Return an x axis with ticks at the densities of the cells, labelled as sparsities."""
    asked = densities(cells)
    ticks = asked[:: -(-len(asked) // _LABELS)]
    labels = " : ".join(
        f"abs(datum.value / {density!r} - 1) < 1e-6 ? '{sparsity_percent(density)}'"
        for density in ticks
    )
    return alt.Axis(values=ticks, labelExpr=f"{labels} : ''", grid=False, labelOverlap="greedy")


def _hex(style: LineStyle) -> str:
    if isinstance(style.color, str):
        # Dense is black, which cannot be seen in the dark theme.
        return style.color if re.fullmatch(r"#[0-9a-f]{6}", style.color) else "#8d5fd3"
    return "#" + "".join(f"{round(255 * part):02x}" for part in style.color)

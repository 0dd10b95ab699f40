"""The interactive chart of a track as Vega-Lite, and the one script that draws it offline.

Vega usually compiles expressions with `eval`, which the policy of the pages forbids. The script
includes the interpreter of Vega, which evaluates the parsed expressions instead (`ast` in
assets/chart.js).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from paibench.benchmark.record import RANDOM_FLOORS
from paibench.leaderboard.figures.style import GREY, LineStyle, line_styles, zoom
from paibench.leaderboard.format import clean, number, sparsity_percent
from paibench.leaderboard.frame.known import Known
from paibench.leaderboard.stats import ranking
from paibench.leaderboard.tables import densities

_LINES = 40  # more cannot be told apart
_HIGHLIGHTED = 8  # of them in colour; a reader chooses others
_TICKS = 12  # of the x axis
_HEIGHT = 360
_GAP = 14 / _HEIGHT  # between two labels, of the height
_ROOM = 0.22  # for the labels, of the width of the lines
_PUBLISHED_TOOLTIP = {
    "method": "method",
    "sparsity": "sparsity",
    "accuracy": "published",
    "n": "n",
    "source": "source",
    "differs": "their protocol",
}
_REFERENCES = ("dense", *RANDOM_FLOORS)
"""The rows that every class of methods is compared with."""
_FILTER = (
    "(kind == 'all' || datum.kind == kind)"
    " && (uses == 'all' || datum.uses == uses || datum.uses == '')"
    " && indexof(lower(datum.method), lower(query)) >= 0"
)
_SHAPES = {
    **{"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"},
    **{"P": "cross", "<": "triangle-left", ">": "triangle-right"},
    "X": "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z",
    "p": "M0,-1L.95,-.31L.59,.81L-.59,.81L-.95,-.31Z",
    "h": "M0,-1L.87,-.5L.87,.5L0,1L-.87,.5L-.87,-.5Z",
    "": "stroke",
}
"""The shapes of Vega for the markers of matplotlib: names, or paths within -1 to 1."""
_SIGNALS = {"kind": "all", "uses": "all", "query": ""}
_DENSE = "#8d5fd3"  # black, its colour in the figures, cannot be seen in the dark theme


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


def chart(
    cells: pd.DataFrame,
    figures: pd.DataFrame | None = None,
    *,
    styles: Mapping[str, LineStyle] | None = None,
    known: Mapping[str, Known | None] | None = None,
) -> dict[str, Any] | None:
    """Return accuracy against sparsity as Vega-Lite, or None if no cell has an accuracy.

    `cells` have the column `row`. A tooltip has mean, interval and n. Lines in colour have a label
    at their end; a click in the legend adds a line to them or takes one away. The signals `kind`,
    `uses` and `query` show some of the rows. `figures`, rows of `published_for`, are drawn as
    hollow diamonds. `styles` are those of all methods of the board, and `known` is what is known
    of them.
    """
    names, _ = drawn(cells)
    values = list(_values(cells, names, known or {}))
    if not values:
        return None
    styles = styles or line_styles(cells["method_label"])
    label_of = dict(zip(cells["row"], cells["method_label"], strict=True))
    labels = [clean(name) for name in names]
    looks = [styles[label_of[name]] for name in names]
    picked = alt.selection_point(
        name="picked",
        fields=["method"],
        bind="legend",
        toggle="true",
        value=[{"method": label} for label in _highlighted(labels)],
    )
    published = [] if figures is None else list(_published_values(values, figures))
    shown = [each[end] for each in (*values, *published) for end in ("low", "high")]
    _add_labels(values, _highlighted(labels), (min(shown), max(shown)), enlarged(cells))
    density = [value["density"] for value in values]
    sparsest, densest = min(density), max(density)
    last = sparsest * (sparsest / densest if sparsest < densest else 0.1) ** _ROOM
    x = alt.X(
        "density:Q",
        title="sparsity",
        scale=alt.Scale(type="log", reverse=True, nice=False, domain=[last, densest]),
        axis=_axis(cells),
    )
    y = alt.Y("mean:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    legend = alt.Legend(title=None, symbolLimit=_LINES, labelLimit=260)

    def by_method(channel: Any, values: Sequence[Any]) -> Any:
        scale = alt.Scale(domain=labels, range=values)
        return channel("method:N", scale=scale, sort=labels, legend=legend)

    color = alt.condition(picked, by_method(alt.Color, list(map(_color, looks))), alt.value(GREY))
    dash = by_method(alt.StrokeDash, [_dash(look) for look in looks])
    shape = by_method(alt.Shape, [_SHAPES[look.marker] for look in looks])
    opacity = alt.condition(picked, alt.value(1.0), alt.value(0.35))
    tooltip = [
        alt.Tooltip(f"{name}:N", title=name)
        for name in ("method", "sparsity", "accuracy", "n", "lost")
    ]
    everything = alt.Chart()
    base = everything.transform_filter(_FILTER)
    detail = alt.Detail("method:N")
    line = base.mark_line(strokeWidth=2).encode(
        x, y, detail, color=color, strokeDash=dash, opacity=opacity
    )
    bars = base.mark_rule(strokeWidth=1.2).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), color=color, opacity=opacity
    )
    points = base.mark_point(size=60, filled=True).encode(
        x, y, shape, color=color, opacity=opacity, tooltip=tooltip
    )
    # Tickets that do not start from the initial weights, and controls, are not ranked.
    unranked = base.transform_filter("datum.kind != 'ranked'").mark_point(
        size=14, filled=True, color="white", tooltip=False
    )
    dense = everything.transform_filter("datum.method == 'dense'")
    rule = dense.mark_rule(strokeDash=[6, 4]).encode(y, color=color, opacity=opacity)
    named = base.transform_filter("isValid(datum.label)").mark_text(align="left", dx=9, fontSize=12)
    ends = named.encode(
        alt.X("end:Q"),
        alt.Y("label:Q"),
        color=color,
        text="method:N",
        opacity=alt.condition(picked, alt.value(1.0), alt.value(0.0)),
    )
    signals = [alt.param(name=name, value=value) for name, value in _SIGNALS.items()]
    layered = alt.layer(
        line.add_params(*signals),
        bars,
        points.add_params(picked),
        unranked.encode(x, y, opacity=opacity),
        rule,
        ends,
        *_published_layers(published, x, color, opacity),
        data=alt.InlineData(values),
    )
    sized = layered.properties(width="container", height=_HEIGHT, background="transparent")
    spec: dict[str, Any] = sized.to_dict()
    # Altair numbers its layers across the process. The same records must give the same bytes.
    for index, layer in enumerate(spec["layer"]):
        layer["name"] = f"layer_{index}"
    for param in spec.get("params", []):
        if "views" in param:
            param["views"] = ["layer_2"]
    return spec


def _highlighted(labels: Sequence[str]) -> list[str]:
    """Return the references and the first rows of a ranking, which a chart shows in colour."""
    references = [label for label in labels if label in _REFERENCES]
    others = [label for label in labels if label not in references]
    return [*references, *others[: _HIGHLIGHTED - len(references)]]


def _color(look: LineStyle) -> str:
    return _DENSE if look.color == "black" else look.color


def _dash(look: LineStyle) -> list[float]:
    return [1, 0] if isinstance(look.dashes, str) else [2 * length for length in look.dashes[1]]


def has_published(spec: Mapping[str, Any]) -> bool:
    """Return whether a chart shows published figures."""
    # Only they have data of their own.
    return any("data" in layer for layer in spec["layer"])


def enlarged(cells: pd.DataFrame) -> list[float] | None:
    """Return the range of accuracies, in percent, with most of the means, if it is a small one."""
    own = cells[(cells["accuracy_n"] > 0) & (cells["control"] == "none")]
    is_dense = own["method"] == "dense"
    means = 100 * own["accuracy_mean"]
    span = zoom(means[~is_dense], means[is_dense])
    return None if span is None else [round(end, 2) for end in span]


def _values(
    cells: pd.DataFrame, names: list[str], known: Mapping[str, Known | None]
) -> Iterator[dict[str, Any]]:
    """Yield the data of each point of our own results."""
    drawn_cells = cells[cells["row"].isin(names) & (cells["accuracy_n"] > 0)]
    rewound = ranking.rewound_rows(cells)
    for cell in drawn_cells.to_dict("records"):
        lost = int(cell["runs"]) - int(cell["accuracy_n"])
        kind = "elsewhere" if cell["row"] in rewound else "ranked"
        about = known.get(cell["method_label"])
        yield {
            "method": clean(cell["row"]),
            "kind": kind if cell["control"] == "none" else "controls",
            # A reference is shown with every class.
            "uses": "" if cell["row"] in _REFERENCES else about.uses if about else "unknown",
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
        # A paper may state a standard deviation that reaches beyond the possible.
        "low": round(max(0.0, min(ends, default=100 * mean)), 4),
        "high": round(min(100.0, max(ends, default=100 * mean)), 4),
        "accuracy": f"{100 * mean:.2f} %" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""),
    }


def _add_labels(
    values: list[dict[str, Any]],
    highlighted: Sequence[str],
    whole: tuple[float, float],
    near: Sequence[float] | None,
) -> None:
    """Add to the sparsest point of each of these rows the place of its label, apart from others.

    `label` is for the whole range of accuracies and `label_near` for the enlarged one.
    """
    by_density = sorted(values, key=lambda value: -float(value["density"]))
    last = {value["method"]: value for value in by_density if value["method"] in highlighted}
    right = by_density[-1]["density"]
    # Vega shows a range of round numbers, which is a little larger.
    ranges = {"label": whole, **({"label_near": near} if near else {})}
    for field, (low, high) in ranges.items():
        shown = {name: value for name, value in last.items() if low <= value["mean"] <= high}
        names = sorted(shown, key=lambda name: -float(shown[name]["mean"]))
        places = spread([shown[name]["mean"] for name in names], 1.1 * (high - low) * _GAP)
        for name, place in zip(names, places, strict=True):
            # The line of the dense network runs across the chart.
            end = right if name == "dense" else shown[name]["density"]
            shown[name] |= {field: round(place, 4), "end": end}


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return places, given from the highest down, moved apart so that neighbours have the gap."""
    # Groups of places that would overlap share their room evenly around their mean.
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _bottom(groups[-2], gap) - _top(groups[-1], gap) < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_top(group, gap) - index * gap for group in groups for index in range(len(group))]


def _top(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) + gap * (len(group) - 1) / 2


def _bottom(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _published_layers(
    published: list[dict[str, Any]], x: alt.X, color: Any, opacity: Any
) -> list[alt.Chart]:
    """Return hollow diamonds with their intervals; none without figures."""
    if not published:
        return []
    base = alt.Chart(alt.InlineData(published)).transform_filter(_FILTER)
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in _PUBLISHED_TOOLTIP.items()]
    bars = base.mark_rule(strokeWidth=1, strokeDash=[1, 2]).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), color=color, opacity=opacity
    )
    diamonds = base.mark_point(shape="diamond", size=90, filled=False, strokeWidth=1.6).encode(
        x, alt.Y("mean:Q"), color=color, opacity=opacity, tooltip=tooltip
    )
    return [bars, diamonds]


def _published_values(
    values: list[dict[str, Any]], figures: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """Yield the published figures of drawn rows within the drawn densities."""
    own = {value["method"]: value for value in values}
    drawn_densities = [value["density"] for value in values]
    # Figures outside our range would stretch the axis and shrink our own lines.
    near = figures["density"].between(min(drawn_densities), max(drawn_densities))
    near &= figures["measure"] == "accuracy"
    near &= figures["method_label"].isin(list(own))
    for each in figures[near].to_dict("records"):
        yield {
            "method": clean(each["method_label"]),
            "kind": own[each["method_label"]]["kind"],
            "uses": own[each["method_label"]]["uses"],
            **_point(each["density"], each["accuracy"], each["low"], each["high"]),
            "n": "not stated" if pd.isna(each["n"]) else str(int(each["n"])),
            "source": f"{clean(each['source'])} ({clean(each['kind'])})",
            "differs": clean(each["differs"]) or "no difference is stated",
        }


def _axis(cells: pd.DataFrame) -> alt.Axis:
    """Return an x axis with ticks at the densities of the cells, labelled as sparsities."""
    asked = densities(cells)
    ticks = asked[:: -(-len(asked) // _TICKS)]
    labels = " : ".join(
        f"abs(datum.value / {density!r} - 1) < 1e-6 ? '{sparsity_percent(density)}'"
        for density in ticks
    )
    return alt.Axis(values=ticks, labelExpr=f"{labels} : ''", grid=False, labelOverlap="greedy")

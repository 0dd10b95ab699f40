"""The interactive chart of a track, and the one script that draws it without any other host.

Vega usually compiles expressions with `eval`, which the pages' policy forbids; the bundle has
Vega's interpreter, which walks the parsed expression instead (`ast` in assets/chart.js).
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from paibench.leaderboard.figures.style import LineStyle, line_styles, zoom
from paibench.leaderboard.format import clean, number, sparsity_percent
from paibench.leaderboard.stats import ranking
from paibench.leaderboard.tables import densities


def point(density: float, mean: float, half: Any) -> dict[str, Any]:
    """Where a mean stands, and its interval, in percent; both are fractions, `half` may be none."""
    known = number(half)
    centre, spread = 100 * mean, 0.0 if known is None else 100 * known
    return {
        "density": density,
        "sparsity": sparsity_percent(density),
        "mean": round(centre, 4),
        "low": round(centre - spread, 4),
        "high": round(centre + spread, 4),
        "accuracy": f"{centre:.2f} %" + (f" ± {spread:.2f}" if known is not None else ""),
    }


# published_chart: Published figures in the chart of a track: hollow marks beside ours, never
# ranked.

_WORDS = "published"
_TELL = {
    "method": "method",
    "sparsity": "sparsity",
    "accuracy": "published",
    "n": "n",
    "source": "source",
    "differs": "their protocol",
}


def values(
    figures: pd.DataFrame, kinds: dict[str, str], span: tuple[float, float]
) -> Iterator[dict[str, Any]]:
    """The rows of `published.published_for` within a span of densities, of drawn rows alone.

    `kinds` has the class of each drawn row by its label, which its published figures share.
    """
    near = figures[(figures["measure"] == "accuracy") & figures["density"].between(*span)]
    for each in near[near["method_label"].isin(list(kinds))].to_dict("records"):
        yield {
            "method": clean(each["method_label"]),
            "kind": kinds[each["method_label"]],
            **point(each["density"], each["accuracy"], each["half"]),
            "n": "not said" if pd.isna(each["n"]) else str(int(each["n"])),
            "source": f"{clean(each['source'])} ({clean(each['kind'])})",
            "differs": clean(each["differs"]) or "nothing that the source says",
            "whose": _WORDS,
        }


def layers(
    found: list[dict[str, Any]], x: alt.X, color: alt.Color, opacity: Any
) -> list[alt.Chart]:
    """Hollow diamonds, their intervals, a legend entry; hovering tells source and protocol."""
    base = alt.Chart(alt.InlineData(found)).transform_filter("kind == 'all' || datum.kind == kind")
    sign = alt.Legend(title=None, symbolFillColor="transparent", symbolStrokeColor="#808080",
                      labelLimit=260)  # fmt: skip
    scale = alt.Scale(domain=[_WORDS], range=["diamond"])
    shape = alt.Shape("whose:N", scale=scale, legend=sign)
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in _TELL.items()]
    bars = base.mark_rule(strokeWidth=1, strokeDash=[1, 2]).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), color, opacity=opacity
    )
    marks = base.mark_point(size=90, filled=False, strokeWidth=1.6).encode(
        x, alt.Y("mean:Q"), color, shape, opacity=opacity, tooltip=tooltip
    )
    return [bars, marks]


# chart: The interactive chart of a track, and the one script that draws it without any other host.

_LINES = 40
_LABELS = 12


@cache
def runtime() -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script that leaves three names in `window`."""
    # Within a function, since the bundle declares names like `n` and `t` that would be global.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its snippet may be left out
    return f"(() => {{\n{bundle}\n}})();\n".encode()


def drawn(cells: pd.DataFrame) -> tuple[list[str], int]:
    """The rows of a track that the chart draws, and how many it would have without a limit."""
    has = set(cells.loc[cells["accuracy_n"] > 0, "row"])
    names = [name for name in ranking.ranked(cells) if name in has]
    return names[:_LINES], len(names)


def chart(cells: pd.DataFrame, figures: pd.DataFrame | None = None) -> dict[str, Any] | None:
    """Accuracy against sparsity as Vega-Lite, from cells with the column `row`; None without any.

    Hovering tells mean, interval and n; clicking the legend toggles a line; the signal `kind`
    shows a class alone. `figures`, rows of `published.published_for`, are hollow marks.
    """
    names, _ = drawn(cells)
    values = list(_values(cells, names))
    if not values:
        return None
    hollow = [] if figures is None else _hollow(values, figures)
    styles = line_styles(cells["method_label"])
    label_of = dict(zip(cells["row"], cells["method_label"], strict=True))
    shown = [clean(name) for name in names]
    colors = [_hex(styles[label_of[name]]) for name in names]
    picked = alt.selection_point(name="picked", fields=["method"], bind="legend", toggle="true")
    kind = alt.param(name="kind", value="all")
    x = alt.X("density:Q", title="sparsity", scale=alt.Scale(type="log", reverse=True, nice=False),
              axis=_axis(cells))  # fmt: skip
    everything = alt.Chart()
    base = everything.transform_filter("kind == 'all' || datum.kind == kind")
    legend = alt.Legend(title=None, symbolLimit=_LINES, labelLimit=260)
    palette = alt.Scale(domain=shown, range=colors)
    color = alt.Color("method:N", scale=palette, sort=shown, legend=legend)
    dash = alt.StrokeDash("kind:N", legend=None, scale=alt.Scale(
        domain=["ranked", "elsewhere", "controls"], range=[[1, 0], [6, 3], [2, 3]]))  # fmt: skip
    faint = alt.condition(picked, alt.value(1.0), alt.value(0.08))
    tooltip = [
        alt.Tooltip(f"{name}:N", title=name)
        for name in ("method", "sparsity", "accuracy", "n", "lost")
    ]
    y = alt.Y("mean:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    line = base.mark_line(strokeWidth=2).encode(x, y, color, strokeDash=dash, opacity=faint)
    bars = base.mark_rule(strokeWidth=1.2).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), color,
                                                  opacity=faint)  # fmt: skip
    points = base.mark_circle(size=70).encode(x, y, color, opacity=faint, tooltip=tooltip)
    dense = everything.transform_filter("datum.method == 'dense'")
    rule = dense.mark_rule(strokeDash=[6, 4]).encode(y, color, opacity=faint)
    theirs = layers(hollow, x, color, faint) if hollow else []
    layered = alt.layer(line.add_params(kind), bars, points.add_params(picked), rule, *theirs,
                        data=alt.InlineData(values))  # fmt: skip
    sized = layered.properties(width="container", height=360, background="transparent")
    spec: dict[str, Any] = sized.to_dict()
    for place, layer in enumerate(spec["layer"]):  # altair numbers them across a process
        layer["name"] = f"layer_{place}"
    for param in spec.get("params", []):
        if "views" in param:
            param["views"] = ["layer_2"]
    return spec


def has_hollow(spec: dict[str, Any]) -> bool:
    """Whether a chart has published figures in it."""
    return any("shape" in layer["encoding"] for layer in spec["layer"])


def enlarged(cells: pd.DataFrame) -> list[float] | None:
    """The part of the y axis where most means crowd, in percent; None where none is worth it."""
    own = cells[(cells["accuracy_n"] > 0) & (cells["control"] == "none")]
    is_dense = own["method"] == "dense"
    means = 100 * own["accuracy_mean"]
    found = zoom(means[~is_dense], means[is_dense])
    return None if found is None else [round(end, 2) for end in found]


def _values(cells: pd.DataFrame, names: list[str]) -> Any:
    wanted = cells[cells["row"].isin(names) & (cells["accuracy_n"] > 0)]
    late = ranking.rewound_rows(cells)
    for cell in wanted.to_dict("records"):
        lost = int(cell["runs"]) - int(cell["accuracy_n"])
        yield {
            "method": clean(cell["row"]),
            "kind": _kind(cell["row"], cell["control"], late),
            **point(cell["density_asked"], cell["accuracy_mean"], cell["accuracy_half"]),
            "n": int(cell["accuracy_n"]),
            "lost": f"{lost} of {int(cell['runs'])} runs" if lost else "none",
        }


def _hollow(drawn: list[dict[str, Any]], figures: pd.DataFrame) -> list[dict[str, Any]]:
    """The published figures beside what is drawn, at no other densities than are drawn."""
    kinds = {value["method"]: value["kind"] for value in drawn}
    densities = [value["density"] for value in drawn]
    return list(values(figures, kinds, (min(densities), max(densities))))


def _kind(name: str, control: str, late: set[str]) -> str:
    if control != "none":
        return "controls"
    return "elsewhere" if name in late else "ranked"


def _axis(cells: pd.DataFrame) -> alt.Axis:
    """Ticks at the densities that were asked for, named as sparsities, not too many of them."""
    found = densities(cells)
    ticks = found[:: -(-len(found) // _LABELS)]
    named = [sparsity_percent(density) for density in ticks]
    names = " : ".join(
        f"abs(datum.value / {density!r} - 1) < 1e-6 ? '{name}'"
        for density, name in zip(ticks, named, strict=True)
    )
    return alt.Axis(values=ticks, labelExpr=f"{names} : ''", grid=False, labelOverlap="greedy")


def _hex(look: LineStyle) -> str:
    if isinstance(look.color, str):
        # Black, that of dense, cannot be seen in the dark.
        return look.color if re.fullmatch(r"#[0-9a-f]{6}", look.color) else "#8d5fd3"
    return "#" + "".join(f"{round(255 * part):02x}" for part in look.color)

"""The interactive chart of a track, and the one script that draws it without any other host.

Vega usually compiles expressions with `eval`, which the pages' policy forbids; the bundle has
Vega's interpreter, which walks the parsed expression instead (`ast` in assets/chart.js).
"""

import re
from functools import cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from paibench.leaderboard import rank
from paibench.leaderboard.looks import Look, looks
from paibench.leaderboard.scales import zoom
from paibench.leaderboard.site import published_chart
from paibench.leaderboard.site.board import clean
from paibench.leaderboard.site.points import point
from paibench.leaderboard.site.track_boards import densities
from paibench.leaderboard.table import sparsity_percent

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
    names = [name for name in rank.ranked(cells) if name in has]
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
    styles = looks(cells["method_label"])
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
    theirs = published_chart.layers(hollow, x, color, faint) if hollow else []
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
    late = rank.elsewhere(cells)
    for cell in wanted.to_dict("records"):
        lost = int(cell["runs"]) - int(cell["accuracy_n"])
        yield {
            "method": clean(cell["row"]),
            "kind": _kind(cell["row"], cell["control"], late),
            **point(cell["density_asked"], cell["accuracy_mean"], cell["accuracy_half"]),
            "n": int(cell["accuracy_n"]),
            "lost": f"{lost} of {int(cell['runs'])} runs" if lost else "none",
        }


def _hollow(values: list[dict[str, Any]], figures: pd.DataFrame) -> list[dict[str, Any]]:
    """The published figures beside what is drawn, at no other densities than are drawn."""
    kinds = {value["method"]: value["kind"] for value in values}
    densities = [value["density"] for value in values]
    return list(published_chart.values(figures, kinds, (min(densities), max(densities))))


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


def _hex(look: Look) -> str:
    if isinstance(look.color, str):
        # Black, that of dense, cannot be seen in the dark.
        return look.color if re.fullmatch(r"#[0-9a-f]{6}", look.color) else "#8d5fd3"
    return "#" + "".join(f"{round(255 * part):02x}" for part in look.color)

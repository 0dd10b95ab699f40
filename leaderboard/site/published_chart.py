"""Published figures in the chart of a track: hollow marks beside ours, never ranked."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from paibench.leaderboard.site.board import clean
from paibench.leaderboard.site.points import point

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

"""The density of each layer at one density of the network, a line for each method."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from paibench.leaderboard.figures.style import Drawn, LineStyle, heading, legend, sheet
from paibench.leaderboard.format import ascii_only, sparsity_percent
from paibench.leaderboard.stats.summary import Track, of_track

_MOST = 24  # more names of layers would overlap
_COLUMNS = ["method_label", "place", "layer", "n", "mean", "low", "high"]


def layer_densities(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean density of each layer by method, with its lowest and highest run and n.

    `place` is the index of the layer, counted from the input. Pass runs of one track, control and
    density. Runs that do not record their layers are left out, and runs whose layers are not the
    commonest ones.
    """
    recorded = runs[
        runs["layer_names"].map(lambda names: isinstance(names, list) and len(names) > 0)
    ]
    if recorded.empty:
        return pd.DataFrame(columns=_COLUMNS)
    shape = pd.Series(
        list(
            zip(recorded["layer_names"].map(tuple), recorded["layer_sizes"].map(tuple), strict=True)
        ),
        index=recorded.index,
    )
    # Networks with different layers cannot share one axis.
    recorded = recorded[shape == shape.value_counts().index[0]]
    long = recorded[["method_label", "layer_names", "layer_sizes", "layer_kept"]].copy()
    long["place"] = [list(range(len(names))) for names in long["layer_names"]]
    long = long.explode(["place", "layer_names", "layer_sizes", "layer_kept"])
    long["layer"] = long["layer_names"].astype("str")
    long["place"] = long["place"].astype("int64")
    sizes = long["layer_sizes"].astype("float64")
    # A faulty record may have a layer of size 0, whose density is then NaN.
    long["density"] = long["layer_kept"].astype("float64") / sizes.where(sizes > 0)
    groups = long.groupby(["method_label", "place", "layer"])["density"]
    layers: pd.DataFrame = groups.agg(n="count", mean="mean", low="min", high="max").reset_index()
    return layers[_COLUMNS]


def profiles(
    track: Track, runs: pd.DataFrame, styles: dict[str, LineStyle], density: float
) -> Drawn:
    """Draw the density of each layer at one density of the network, from the frame of runs.

    Layers are in order from input to output. The y axis is logarithmic, so an empty layer is a
    cross at the bottom. The dashed line is the density of the whole network. Points are means over
    seeds; bars reach from the lowest to the highest run.
    """
    ours = of_track(runs, track)
    ours = ours[(ours["control"] == "none") & (ours["method"] != "dense")]
    ours = ours[ours["density_asked"] == density]
    densities = layer_densities(ours)
    if densities.empty:
        at = sparsity_percent(density)
        return Drawn(None, f"no run at {at} sparsity records what each layer keeps")
    layers = densities.drop_duplicates("place").sort_values("place")["layer"].tolist()
    with sheet(width=min(5.0 + 0.06 * max(0, len(layers) - 20), 8)) as figure:
        axes = figure.add_subplot()
        axes.set_yscale("log")
        axes.axhline(100 * density, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
        foot = _foot(densities, density)
        names = sorted(densities["method_label"].unique())
        # Layers are 1 apart; the offsets keep the bars of different methods from overlapping.
        for name, shift in zip(names, np.linspace(-0.22, 0.22, len(names) + 2)[1:-1], strict=True):
            _profile(axes, densities[densities["method_label"] == name], styles[name], shift, foot)
        axes.set_ylim(foot / 1.5, 150)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _layers(axes, layers)
        n = sorted(densities["n"].unique())
        counts = str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}"
        words = f"{sparsity_percent(density)} sparsity; mean, lowest, highest of n = {counts}"
        heading(axes, f"{track.model} on {track.dataset}", words)
        sns.despine(ax=axes)
        handles, labels = axes.get_legend_handles_labels()
        legend(figure, list(handles), labels)
    return Drawn(figure)


def _foot(densities: pd.DataFrame, density: float) -> float:
    """Return the lower end of the y axis in percent, below every layer that keeps anything."""
    positive = densities.loc[densities["low"] > 0, "low"]
    lowest = min(positive.min() if len(positive) else density, density)
    return float(100 * lowest / 2)


def _profile(axes: Axes, rows: pd.DataFrame, style: LineStyle, shift: float, foot: float) -> None:
    rows = rows.sort_values("place")
    x = rows["place"].to_numpy() + shift
    mean, low, high = (100 * rows[name].to_numpy() for name in ("mean", "low", "high"))
    # A logarithmic axis cannot show 0, so an empty layer is a cross at its foot.
    nonzero = mean > 0
    axes.plot(
        x,
        np.where(nonzero, mean, np.nan),
        color=style.color,
        linestyle=style.dashes,
        linewidth=1,
        marker=style.marker,
        markersize=4,
        markeredgewidth=0.4,
        markeredgecolor="white",
        label=ascii_only(str(rows["method_label"].iloc[0]), 60),
    )
    axes.vlines(x, np.maximum(low, foot), np.maximum(high, foot), color=style.color, linewidth=0.8)
    if not nonzero.all():
        axes.plot(x[~nonzero], np.full((~nonzero).sum(), foot), "x", color=style.color)


def _layers(axes: Axes, layers: list[str]) -> None:
    step = -(-len(layers) // _MOST)
    tick_labels = [ascii_only(name.removesuffix(".weight"), 18) for name in layers[::step]]
    axes.set_xticks(
        range(0, len(layers), step), tick_labels, rotation=90 if len(tick_labels) > 8 else 0
    )
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_xlabel("Layer, from input to output" + (f" (one in {step} named)" * (step > 1)))
    axes.set_ylabel("Kept weights (%)")

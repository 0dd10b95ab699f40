"""Accuracy against the width of a network: at equal sparsity, and with equal numbers of weights.

The second shows whether it is better to prune a wide network or to start from a narrow one; after
Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", CVPR 2020.
"""

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from paibench.benchmark.spec import Named
from paibench.leaderboard.figures.accuracy import MEANINGS, Measure
from paibench.leaderboard.figures.style import Drawn, LineStyle, bars, heading, legend, sheet, small
from paibench.leaderboard.figures.trained import supermasks
from paibench.leaderboard.format import ascii_only, common_n, sparsity_percent
from paibench.leaderboard.frame.rows import option_number
from paibench.leaderboard.stats.summary import TRACK, Track

# Networks of different widths rarely keep exactly the same number of weights.
TOLERANCE = 0.05
_REST = [name for name in TRACK if name != "model"]


def family(summary: pd.DataFrame, track: Track, models: Mapping[str, Named]) -> pd.DataFrame:
    """Return the cells of all tracks that differ from this one only in the width of the model.

    `models` has the model of each label. The result has two more columns: `width`, and `kept`, the
    number of weights that a cell was asked to keep.
    """
    same = (summary[_REST] == [getattr(track, name) for name in _REST]).all(axis=1)
    own = _without_width(models[track.model])
    width_of = {
        label: option_number(model, "width", 1.0)
        for label, model in models.items()
        if _without_width(model) == own
    }
    cells = summary[same & summary["model"].isin(list(width_of))]
    width = cells["model"].map(width_of).astype("float64")
    kept_count = (cells["density_asked"] * cells["prunable"].astype("float64")).round()
    drawable = width.between(0, 1e6, inclusive="neither")  # no network has another width
    return cells.assign(width=width, kept=kept_count)[drawable]


def at_sparsity(cells: pd.DataFrame, density: float) -> pd.DataFrame:
    """Return the cells of one density, and dense, which has only one."""
    return cells[(cells["density_asked"] == density) | (cells["method"] == "dense")]


def at_kept(cells: pd.DataFrame, kept_count: float, tolerance: float = TOLERANCE) -> pd.DataFrame:
    """Return for each method and width the cell that keeps nearly as many weights, if any."""
    # If two cells are equally near, the sparser one is taken, whatever the order of the rows.
    away = (cells["kept"] / kept_count - 1).abs()
    near = cells.assign(away=away)[away <= tolerance].sort_values(["away", "density_asked"])
    return near.drop_duplicates(["method_label", "control", "width"]).drop(columns="away")


def widths(
    summary: pd.DataFrame,
    track: Track,
    models: Mapping[str, Named],
    styles: dict[str, LineStyle],
    density: float,
    measure: Measure = "accuracy",
) -> Drawn:
    """Draw a measure against width: at the left at one sparsity, at the right with equal weights.

    `summary` has all tracks. The right panel has cells that keep as many weights, within 5 %, as
    the model of `track` keeps at `density`. Bars are 95 % intervals. Before training, only
    supermasks are drawn, and the dense network after training.
    """
    cells = family(summary[summary["control"] == "none"], track, models)
    if measure == "accuracy_untrained":
        cells = _before_training(cells)
    cells = cells[cells[f"{measure}_n"] > 0]
    own = cells[(cells["model"] == track.model) & (cells["method"] != "dense")]
    kept_counts = own.loc[own["density_asked"] == density, "kept"].dropna()
    left, right = _several(at_sparsity(cells, density)), pd.DataFrame()
    if len(kept_counts):
        pruned = cells[cells["method"] != "dense"]
        right = _several(at_kept(pruned, float(kept_counts.iloc[0])))
    # Dense networks of several widths alone compare no methods.
    if set(left.get("method", ())) <= {"dense"} and right.empty:
        at = sparsity_percent(density)
        return Drawn(None, f"no method has runs at {at} sparsity at two widths or more")
    with sheet(width=6.8) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, part in zip(panels, (left, right), strict=True):
            _panel(axes, part, styles, measure)
        n = common_n(cells[f"{measure}_n"])
        words = f"at {sparsity_percent(density)} sparsity; mean and 95 % interval, n = {n}"
        heading(panels[0], f"{models[track.model].name} on {track.dataset}", words)
        number = f"{int(kept_counts.iloc[0]):,}" if len(kept_counts) else "as many"
        small(panels[1], f"with {number} kept weights, within {100 * TOLERANCE:g} %")
        panels[0].set_ylabel(MEANINGS[measure])
        # A method that is in both panels needs only one entry.
        handles = {
            label: handle
            for axes in panels
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        legend(figure, list(handles.values()), list(handles))
    return Drawn(figure)


def _before_training(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the supermasks and dense, whose accuracy in place of the untrained one is trained."""
    dense = cells["method"] == "dense"
    cells = cells.copy()
    for part in ("mean", "low", "high", "n"):
        cells.loc[dense, f"accuracy_untrained_{part}"] = cells.loc[dense, f"accuracy_{part}"]
    return cells[dense | supermasks(cells)]


def _several(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of methods that have two widths or more."""
    return cells[cells.groupby("method_label")["width"].transform("nunique") > 1]


def _panel(axes: Axes, cells: pd.DataFrame, styles: dict[str, LineStyle], measure: Measure) -> None:
    axes.set_xscale("log", base=2)
    before = measure == "accuracy_untrained"
    for name, line in cells.groupby("method_label") if len(cells) else ():
        line = line.sort_values("width")
        style = styles[str(name)]
        axes.plot(
            line["width"],
            100 * line[f"{measure}_mean"],
            color=style.color,
            linestyle=style.dashes,
            marker=style.marker,
            linewidth=1.3,
            markersize=4.5,
            # the axis says "before training", which is not true of this line
            label="dense, trained" if before and name == "dense" else ascii_only(str(name), 60),
        )
        bars(axes, line["width"], line[f"{measure}_low"], line[f"{measure}_high"], style.color)
    ticks = sorted(cells["width"].unique()) if len(cells) else []
    axes.set_xticks(ticks, [f"{width:g}" for width in ticks])
    axes.minorticks_off()
    axes.set_xlabel("Width (log)")
    if cells.empty:
        axes.text(0.5, 0.5, "no two widths", transform=axes.transAxes, ha="center")
    sns.despine(ax=axes)


def _without_width(model: Named) -> Named:
    options = {key: value for key, value in model.options.items() if key != "width"}
    return Named(name=model.name, options=options)

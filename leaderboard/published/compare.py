"""Published figures beside ours at nearly the same density: how far apart, and why it may be so."""

from typing import Any

import pandas as pd

from paibench.leaderboard.published import load as figures
from paibench.leaderboard.stats.summary import Track
from paibench.leaderboard.tables import Table, row_name, sparsity_percent

TOLERANCE = 0.05
_TYPES = {
    **dict.fromkeys(("method_label", "control", "measure"), "str"),
    **dict.fromkeys(("density_theirs", "theirs", "theirs_half"), "float64"),
    "theirs_n": "Int64",
    **dict.fromkeys(("density_ours", "ours", "ours_half"), "float64"),
    "ours_n": "Int64",
    "difference": "float64",
    **dict.fromkeys(("differs", "kind", "source"), "str"),
}
_MEASURES = {
    "accuracy": "",
    "accuracy_untrained": ", before training",
    "native_accuracy": ", its own supermask",
}


def reproduction(
    track: Track,
    cells: pd.DataFrame,
    published: pd.DataFrame | None = None,
    tolerance: float = TOLERANCE,
) -> pd.DataFrame:
    """Every comparable published figure that a cell of ours stands beside, a row each.

    Ours is the cell of the same method, options and control at the nearest density, at most
    `tolerance` of theirs away. `difference` is ours minus theirs; halves are those of 95 % t
    intervals, not a number where the source gives no deviation with its n; accuracies are
    fractions. `differs` says in what their protocol is another.
    """
    known = figures.load() if published is None else published
    rows = []
    own = dict(iter(cells.groupby(["method_label", "control"])))
    for theirs in figures.comparable(track, known).to_dict("records"):
        ours = own.get((theirs["method_label"], theirs["control"]))
        if ours is not None and (row := _beside(theirs, ours, tolerance)):
            rows.append(row)
    order = ["method_label", "control", "measure", "density_theirs", "kind", "source"]
    falling = [name != "density_theirs" for name in order]
    found = pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)
    return found.sort_values(order, ascending=falling, kind="stable", ignore_index=True)


def as_table(track: Track, rows: pd.DataFrame, tolerance: float = TOLERANCE) -> Table:
    """The rows of `reproduction` as a table to show, in percent."""
    shown = tuple(
        (
            row_name(row["method_label"], row["control"]) + _MEASURES[row["measure"]],
            sparsity_percent(row["density_theirs"]),
            sparsity_percent(row["density_ours"]),
            _number(row["theirs"], row["theirs_half"], row["theirs_n"]),
            _number(row["ours"], row["ours_half"], row["ours_n"]),
            f"{100 * row['difference']:+.1f}",
            row["differs"],
            f"{row['source']} ({row['kind']})",
        )
        for row in rows.to_dict("records")
    )
    head = (
        *("method", "sparsity, theirs", "sparsity, ours", "theirs", "ours", "difference"),
        *("in what theirs differs", "source"),
    )
    notes = (
        "Accuracy in percent; the difference is ours minus theirs. ± is half the width of the "
        "95 % t interval, there only where a source gives a deviation and how many runs it is of.",
        f"Ours is the nearest density, at most {100 * tolerance:g} % of theirs away.",
        "Published figures are not ranked: no two of these protocols are the same.",
    )
    title = f"Published figures beside ours, {track.model} on {track.dataset}"
    return Table(title, head, shown, notes)


def _beside(theirs: dict[Any, Any], ours: pd.DataFrame, tolerance: float) -> dict[str, Any] | None:
    """A row for one published figure; None without a cell near it that has a result."""
    measure = theirs["measure"]
    ours = ours[ours[f"{measure}_n"] > 0]
    away = (ours["density_asked"] / theirs["density"] - 1).abs()
    if ours.empty or away.min() > tolerance + 1e-9:  # so that a twentieth is one
        return None
    cell = ours.loc[away.idxmin()]
    return {
        **{name: theirs[name] for name in ("method_label", "control", "measure")},
        "density_theirs": theirs["density"],
        "theirs": theirs["accuracy"],
        "theirs_half": theirs["half"],
        "theirs_n": theirs["n"],
        "density_ours": cell["density_asked"],
        "ours": cell[f"{measure}_mean"],
        "ours_half": cell[f"{measure}_half"],
        "ours_n": cell[f"{measure}_n"],
        "difference": cell[f"{measure}_mean"] - theirs["accuracy"],
        **{name: theirs[name] for name in ("differs", "kind", "source")},
    }


def _number(mean: float, half: float, n: Any) -> str:
    spread = "" if pd.isna(half) else f" ± {100 * half:.1f}"
    return f"{100 * mean:.1f}{spread} (n={'?' if pd.isna(n) else int(n)})"

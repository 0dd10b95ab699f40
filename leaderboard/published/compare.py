"""Published figures beside our results at nearly the same density, with their differences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from paibench.benchmark.spec import Named
from paibench.leaderboard.format import (
    clean,
    row_name,
    signed,
    sparsity_percent,
)
from paibench.leaderboard.published.load import comparable
from paibench.leaderboard.stats.summary import Track
from paibench.leaderboard.tables import Cell, Column, Row, Table, interval_cell

# Published densities are rarely exactly ours.
TOLERANCE = 0.05
_TYPES = {
    **dict.fromkeys(("method_label", "control", "measure"), "str"),
    **dict.fromkeys(("density_theirs", "theirs", "theirs_low", "theirs_high"), "float64"),
    "theirs_n": "Int64",
    **dict.fromkeys(("density_ours", "ours", "ours_low", "ours_high"), "float64"),
    "ours_n": "Int64",
    "difference": "float64",
    **dict.fromkeys(("differs", "kind", "source"), "str"),
}
COLUMNS = (
    Column("theirs_at", "sparsity, theirs"),
    Column("ours_at", "sparsity, ours"),
    Column("theirs", "theirs", spread=True),
    Column("ours", "ours", spread=True),
    Column("difference", "difference", "ours minus theirs, in points"),
    Column("differs", "how their protocol differs", words=True),
    Column("source", "source", words=True),
)
_MEASURES = {
    "accuracy": "",
    "accuracy_untrained": ", before training",
    "native_accuracy": ", its own supermask",
}


def reproduction(
    track: Track,
    model: Named,
    cells: pd.DataFrame,
    published: pd.DataFrame,
    tolerance: float = TOLERANCE,
) -> pd.DataFrame:
    """Return every comparable published figure with a cell of ours, a row each.

    Ours is the cell of the same method, options and control at the nearest density, if it is at
    most `tolerance` (relative) away. `difference` is ours minus theirs. `_low` and `_high` are the
    ends of 95 % intervals, NaN if the source does not give a deviation with its n. Accuracies are
    fractions. `differs` says how their protocol differs.
    """
    rows = []
    own = dict(iter(cells.groupby(["method_label", "control"])))
    for theirs in comparable(track, model, published).to_dict("records"):
        ours = own.get((theirs["method_label"], theirs["control"]))
        # Many published methods and controls have no runs of ours.
        if ours is not None and (row := _beside(theirs, ours, tolerance)):
            rows.append(row)
    order = ["method_label", "control", "measure", "density_theirs", "kind", "source"]
    # The densest comes first, as in the other tables.
    falling = [name != "density_theirs" for name in order]
    pairs = pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)
    return pairs.sort_values(order, ascending=falling, kind="stable", ignore_index=True)


def as_table(track: Track, rows: pd.DataFrame, hrefs: Mapping[str, str] | None = None) -> Table:
    """Return the rows of `reproduction` as a table, in percent.

    `hrefs` has the page of each method label, for the site.
    """
    return Table(
        id="published",
        title=f"Published figures beside ours, {track.model} on {track.dataset}",
        caption=(
            "Accuracy in percent; the difference is ours minus theirs, in points. ± is the "
            "95 % interval, shown only if a source gives a deviation and n, the number of runs; "
            "n = ? if it does not say n."
        ),
        head="method",
        columns=COLUMNS,
        rows=tuple(_row(each, hrefs or {}) for each in rows.to_dict("records")),
        notes=(
            f"Ours is the nearest sparsity; its density is at most {100 * TOLERANCE:g} % away from "
            "theirs.",
            "Published figures are not ranked: no two of these protocols are the same.",
        ),
    )


def _row(each: dict[Any, Any], hrefs: Mapping[str, str]) -> Row:
    name = row_name(each["method_label"], each["control"]) + _MEASURES[each["measure"]]
    difference = each["difference"]
    cells = (
        _sparsity(each["density_theirs"]),
        _sparsity(each["density_ours"]),
        _mean(each, "theirs"),
        _mean(each, "ours"),
        Cell(signed(difference), value=round(100 * difference, 4)),
        Cell(clean(each["differs"]) or "nothing that the source says"),
        Cell(clean(each["source"]), f"kind: {clean(each['kind'])}"),
    )
    return Row(clean(name), hrefs.get(each["method_label"], ""), cells)


def _sparsity(density: float) -> Cell:
    return Cell(sparsity_percent(density), value=round(100 * (1 - density), 9))


def _mean(each: dict[Any, Any], whose: str) -> Cell:
    n = None if pd.isna(each[f"{whose}_n"]) else int(each[f"{whose}_n"])
    ends = each[f"{whose}_low"], each[f"{whose}_high"]
    return interval_cell(each[whose], *ends, n, [f"n = {'?' if n is None else n}"])


def _beside(theirs: dict[Any, Any], ours: pd.DataFrame, tolerance: float) -> dict[str, Any] | None:
    """Return a row for one published figure; None if no cell near it has a result."""
    measure = theirs["measure"]
    # A cell without a result must not hide a cell nearby that has one.
    ours = ours[ours[f"{measure}_n"] > 0]
    away = (ours["density_asked"] / theirs["density"] - 1).abs()
    if ours.empty or away.min() > tolerance + 1e-9:  # floats: 5 % must count as 5 %
        return None
    cell = ours.loc[away.idxmin()]
    return {
        **{name: theirs[name] for name in ("method_label", "control", "measure")},
        "density_theirs": theirs["density"],
        "theirs": theirs["accuracy"],
        "theirs_low": theirs["low"],
        "theirs_high": theirs["high"],
        "theirs_n": theirs["n"],
        "density_ours": cell["density_asked"],
        "ours": cell[f"{measure}_mean"],
        "ours_low": cell[f"{measure}_low"],
        "ours_high": cell[f"{measure}_high"],
        "ours_n": cell[f"{measure}_n"],
        "difference": cell[f"{measure}_mean"] - theirs["accuracy"],
        **{name: theirs[name] for name in ("differs", "kind", "source")},
    }

"""Published accuracies from papers and authors' files, and those that belong to a track."""

import csv
import io
import json
import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paibench.benchmark.spec import Named
from paibench.leaderboard.frame.rows import label, option_number
from paibench.leaderboard.stats.log_odds import Array, interval, sample_of
from paibench.leaderboard.stats.summary import MEASURES, Track
from paibench.methods.core.registry import UserError

# What the source says, in its own words.
SOURCE_FIELDS = (
    *("method", "model", "dataset", "density_percent", "accuracy_percent", "std"),
    *("kind", "setting", "source"),
)
# What it means here. Empty fields mean: the name of the source, no control, `accuracy`, n unknown.
OUR_FIELDS = (
    *("our_method", "our_model", "our_dataset", "control", "measure", "n", "differs", "doubt"),
)
FIELDS = SOURCE_FIELDS + OUR_FIELDS
# How much a figure is worth as a reference, the best first.
KINDS = ("author-data", "paper", "readme", "repo-run", "derived", "secondary", "third-party")
CONTROLS = ("none", "shuffle", "reinit", "invert")
COLUMNS = {
    **dict.fromkeys(("method", "method_label", "control", "model", "dataset", "measure"), "str"),
    **dict.fromkeys(("density", "accuracy", "std"), "float64"),
    "n": "Int64",
    "low": "float64",
    "high": "float64",
    **dict.fromkeys(("differs", "doubt", "kind", "setting", "source", "family"), "str"),
    **dict.fromkeys(("width", "depth", "k"), "float64"),
}
_SIZES = {"width": 1.0, "depth": 28.0, "k": 2.0}  # the defaults of our models


def load(path: Path | None = None) -> pd.DataFrame:
    """Return all published figures, or those of another file with the same fields, a row each.

    Columns: `method`, `method_label`, `model`, `dataset` by our names if we have one, else by those
    of the source; `control`; `measure`, the column of ours that it is compared with; `density`, NaN
    if the source does not say; `accuracy` and `std` as fractions; `n`, the number of runs, and
    `low` and `high`, the ends of the 95 % interval, if the source gives both; `differs`, how the
    protocol differs from ours; `doubt`, why it is no reference; `kind`, `setting`, `source`;
    `family`, `width`, `depth`, `k`, the name and size of the model.
    Raises UserError that names the file, the row and the column of the first error.
    """
    name = str(path or "published.csv")
    try:
        text = path.read_text("utf-8") if path else _packaged()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: cannot be read: {error}") from error
    rows = [_row(row, f"{name}, row {line}") for line, row in _rows(text, name)]
    published = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    counts = published["n"].astype("float64")
    published["low"], published["high"] = _interval(published, counts.where(counts > 1))
    return published


def _interval(published: pd.DataFrame, counts: pd.Series) -> tuple[Array, Array]:
    """Return the ends of t intervals on the scale of ours, log-odds, by the delta method."""
    accuracy = published["accuracy"].where(published["accuracy"].between(0, 1, inclusive="neither"))
    # The derivative of ln(p / (1 - p)) is 1 / (p (1 - p)).
    spread = published["std"] / (accuracy * (1 - accuracy))
    odds = np.log(accuracy / (1 - accuracy))
    values = pd.DataFrame({"n": counts, "mean": odds, "variance": spread**2})
    return interval(sample_of(values))


def comparable(track: Track, model: Named, published: pd.DataFrame) -> pd.DataFrame:
    """Return the figures for the data set of a track and for its `model` at the same size.

    Leaves out figures in doubt and figures of unknown density. There are none for a track on a part
    of a data set, or with another option that changes the size of the model.
    """
    fits = (published["dataset"] == track.dataset) & (published["family"] == model.name)
    for option, default in _SIZES.items():
        # An option that is no number gives NaN, which equals no published size.
        fits &= published[option] == option_number(model, option, default)
    fits &= (published["doubt"] == "") & published["density"].notna()
    return published[fits].reset_index(drop=True)


def published_for(
    track: Track, model: Named, cells: pd.DataFrame, published: pd.DataFrame
) -> pd.DataFrame:
    """Return what figures show beside the cells of a track: each method's most trusted source.

    The columns of `load`, for the methods of the cells only, without controls; never ranked.
    """
    figures = comparable(track, model, published)
    own = cells.loc[cells["control"] == "none", "method_label"]
    figures = figures[(figures["control"] == "none") & figures["method_label"].isin(own)]
    trust = figures["kind"].map(KINDS.index)
    best = trust.groupby([figures["method_label"], figures["measure"]]).transform("min")
    order = ["method_label", "measure", "density", "source"]
    return figures[trust == best].sort_values(order, kind="stable", ignore_index=True)


def _packaged() -> str:
    return (files("paibench.leaderboard.published") / "published.csv").read_text("utf-8")


def _rows(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of the line of each row, and its fields by name; the head is line 1."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    seen: dict[tuple[str, ...], int] = {}
    try:
        head = next(reader, [])
        if tuple(head) != FIELDS:
            raise UserError(f"{name}, row 1: the columns must be {', '.join(FIELDS)}")
        for row in reader:
            line = reader.line_num
            if len(row) != len(FIELDS):
                raise UserError(f"{name}, row {line}: has {len(row)} columns, not {len(FIELDS)}")
            if (first := seen.setdefault(tuple(row), line)) != line:
                raise UserError(f"{name}, row {line}: is the same as row {first}")
            yield line, dict(zip(FIELDS, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{name}, row {reader.line_num}: {error}") from error


def _row(row: dict[str, str], where: str) -> dict[str, Any]:
    for column in ("method", "model", "dataset", "source"):
        if not row[column].strip():
            raise UserError(f"{where}, column {column}: is empty")
    method, model = _named(row, "method", where), _named(row, "model", where)
    runs = row["n"]
    if runs and not runs.isdecimal():
        raise UserError(f"{where}, column n: {runs[:80]!r} is not a number of runs")
    return {
        "method": row["method"] if method is None else method.name,
        "method_label": row["method"] if method is None else label(method),
        "control": _choice(row, "control", CONTROLS, where),
        "model": row["model"] if model is None else label(model),
        "dataset": row["our_dataset"] or row["dataset"],
        "measure": _choice(row, "measure", MEASURES, where),
        "density": _percent(row, "density_percent", where, above=True, needed=False),
        "accuracy": _percent(row, "accuracy_percent", where),
        "std": _percent(row, "std", where, needed=False),
        "n": int(runs) if runs else None,
        **{name: row[name] for name in ("differs", "doubt", "setting", "source")},
        "kind": _choice(row, "kind", KINDS, where),
        "family": row["model"] if model is None else model.name,
        **{
            option: default if model is None else option_number(model, option, default)
            for option, default in _SIZES.items()
        },
    }


def _named(row: dict[str, str], column: str, where: str) -> Named | None:
    """Return our name with its options, written as in a spec; None if we do not have it."""
    text = row[f"our_{column}"]
    if not text:
        return None
    try:
        return Named.model_validate(json.loads(text) if text.startswith("{") else text)
    except ValueError as error:
        raise UserError(f"{where}, column our_{column}: {text[:80]!r} is not a name") from error


def _choice(row: dict[str, str], column: str, choices: tuple[str, ...], where: str) -> str:
    text = row[column]
    if not text and column != "kind":
        return choices[0]
    if text not in choices:
        raise UserError(f"{where}, column {column}: {text[:80]!r} is none of {', '.join(choices)}")
    return text


def _percent(
    row: dict[str, str], column: str, where: str, *, above: bool = False, needed: bool = True
) -> float:
    text = row[column]
    if not text and not needed:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value <= 100) or (above and value == 0):
        span = "above 0 and at most 100" if above else "from 0 to 100"
        raise UserError(f"{where}, column {column}: {text[:80]!r} is no number {span}")
    return round(value / 100, 12)  # 98.4 is 0.984, not 0.9840000000000001

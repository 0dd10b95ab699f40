"""Published accuracies in our words: what papers and authors' files say, never ranked with ours."""

import csv
import io
import math
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from paibench.leaderboard.frame import labels
from paibench.leaderboard.published.names import DATASETS, MODELS, NOTES, method_of
from paibench.leaderboard.stats.summary import Track, half_width
from paibench.methods.core.registry import UserError

FIELDS = (
    *("method", "model", "dataset", "density_percent", "accuracy_percent", "std"),
    *("kind", "setting", "source"),
)
# What a figure is worth as a reference, best first.
KINDS = ("author-data", "paper", "readme", "repo-run", "derived", "secondary", "third-party")
COLUMNS = {
    "method": "str",
    "method_label": "str",
    "control": "str",
    "model": "str",
    "dataset": "str",
    "measure": "str",
    "density": "float64",
    "accuracy": "float64",
    "std": "float64",
    "n": "Int64",
    "half": "float64",
    "differs": "str",
    "doubt": "str",
    "kind": "str",
    "setting": "str",
    "source": "str",
}
_SIZES = {"width": 1.0, "depth": 28.0, "k": 2.0}  # with the defaults of wide-resnet
_RUNS = re.compile(r"\bn=(\d{1,6})\b")
_DOUBT = re.compile(r"(?:CAUTION|SUSPECT)\b.*")
_CONTROLS = {
    "shuffle": re.compile(r"layer-wise (?:mask )?shuffle"),
    "reinit": re.compile(r"\breinit\b"),
    "invert": re.compile(r"\binverted\b"),
}
_BEST = re.compile(r"max over epochs of test|best test acc|best over k", re.IGNORECASE)
_LAST = re.compile(r"\blast (?:logged )?epoch\b|end of mask search", re.IGNORECASE)


def load(path: Path | None = None) -> pd.DataFrame:
    """All published figures, or those of another file of the same form, a row each.

    Columns: `method`, `method_label`, `model`, `dataset` in our names where we have one, theirs
    elsewhere; `control`; `measure`, the column of ours that it stands beside; `density`, not a
    number where the source does not say; `accuracy` and `std` as fractions; `n`, the runs behind
    them, and `half`, half the 95 % t interval, where the source gives both; `differs`, in what the
    protocol differs from ours; `doubt`, why it is no reference; `kind`, `setting`, `source`.
    Raises UserError that names the file, the row and the column of what is wrong.
    """
    name = str(path or "published.csv")
    try:
        text = path.read_text("utf-8") if path else _own()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: cannot be read: {error}") from error
    rows = [_row(row, f"{name}, row {line}") for line, row in _rows(text, name)]
    found = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    counts = found["n"].astype("float64")
    found["half"] = half_width(found["std"].where(counts > 1), counts)
    return found


def comparable(track: Track, published: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand beside a track: its data set, and its model at the same width.

    Without those in doubt, and without those whose density is not known. A track on a part of the
    data, or with other options that change the size of the model, has none.
    """
    family = labels.split(track.model)[0]
    size = _size(track.model)
    near = (published["dataset"] == track.dataset) & (published["doubt"] == "")
    near &= published["density"].notna()
    candidates = published[near]
    fits = [
        labels.split(model)[0] == family and _size(model) == size for model in candidates["model"]
    ]
    return candidates[pd.Series(fits, candidates.index, dtype=bool)].reset_index(drop=True)


def published_for(
    track: Track, cells: pd.DataFrame, published: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What to draw hollow beside the cells of a track: of each method the most trusted source.

    The columns of `load`, for methods of the cells alone, without controls; never to be ranked.
    """
    known = load() if published is None else published
    found = comparable(track, known)
    own = cells.loc[cells["control"] == "none", "method_label"]
    found = found[(found["control"] == "none") & found["method_label"].isin(own)]
    trust = found["kind"].map(KINDS.index)
    best = trust.groupby([found["method_label"], found["measure"]]).transform("min")
    order = ["method_label", "measure", "density", "source"]
    return found[trust == best].sort_values(order, kind="stable", ignore_index=True)


def _own() -> str:
    return (files("paibench.leaderboard") / "published.csv").read_text("utf-8")


def _rows(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row by the names of its columns, with the number of its line; the head is line 1."""
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
                raise UserError(f"{name}, row {line}: says the same as row {first}")
            yield line, dict(zip(FIELDS, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{name}, row {reader.line_num}: {error}") from error


def _row(row: dict[str, str], where: str) -> dict[str, Any]:
    for column in ("method", "model", "dataset", "source"):
        if not row[column].strip():
            raise UserError(f"{where}, column {column}: is empty")
    if row["kind"] not in KINDS:
        raise UserError(f"{where}, column kind: {row['kind'][:80]!r} is none of {', '.join(KINDS)}")
    density = _percent(row, "density_percent", where, above=True, needed=False)
    setting = row["setting"]
    method, label = method_of(row["method"], setting)
    runs = _RUNS.search(setting)
    doubt = _DOUBT.search(setting)
    return {
        "method": method,
        "method_label": label,
        "control": next((name for name, said in _CONTROLS.items() if said.search(setting)), "none"),
        "model": MODELS.get(row["model"], row["model"]),
        "dataset": DATASETS.get(row["dataset"], row["dataset"]),
        "measure": _measure(method, setting),
        "density": density,
        "accuracy": _percent(row, "accuracy_percent", where),
        "std": _percent(row, "std", where, needed=False),
        "n": int(runs[1]) if runs else 1 if "single run" in setting else None,
        "differs": _differs(row["model"], setting),
        "doubt": doubt[0] if doubt else "",
        "kind": row["kind"],
        "setting": setting,
        "source": row["source"],
    }


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


def _measure(method: str, setting: str) -> str:
    """Which accuracy of ours a figure stands beside; supermasks are published untrained."""
    said = setting.lower()
    if method.startswith("zhou"):
        return "native_accuracy"
    supermask = method.startswith(("edge_popup", "hypercube")) and "after finetune" not in said
    untrained = any(words in said for words in ("before finetune", "before weight training"))
    return "accuracy_untrained" if supermask or untrained else "accuracy"


def _differs(model: str, setting: str) -> str:
    """In what a published figure was not made like ours, in words."""
    words = [NOTES[model]] if model in NOTES else []
    if _BEST.search(setting):
        words.append("the best epoch on the test set, where ours is the last")
    elif not _LAST.search(setting):
        words.append("which epoch counts is not said")
    said = re.sub(r"compression 10\^[\d.]+; |\bn=\d+; |; n=\d+$|^n=\d+$", "", setting)
    said = re.sub(r"top-1 = MAX over epochs of TEST acc \(not last epoch\); ", "", said)
    said = re.sub(r"^error [\d.]+% ?|^(?:std ddof=1|last epoch)$", "", said)
    return "; ".join([*words, said] if said else words)


def _size(model: str) -> tuple[float, ...]:
    """Width, depth and widening of a model by its label."""
    return tuple(labels.number(model, option, default) for option, default in _SIZES.items())

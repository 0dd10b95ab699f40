"""A mark is a file of its own and counts as long as its record has the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.store import Store
from paibench.leaderboard.frame.load import load
from paibench.leaderboard.stats.summary import CELL
from paibench.leaderboard.submission import verification_level
from paibench.leaderboard.submission.verification_level import Level, Mark

Edit = Callable[..., None]

BY = {"paibench": "0.1.0", "commit": None, "device": "cpu", "torch": "2"}


def first(root: Path) -> tuple[Store, str]:
    store = Store.read(root)
    return store, min(store.listing().done)


def mark(store: Store, key: str, level: Level) -> Path:
    return verification_level.write_mark(
        store, Mark.now(store, key, level, {"difference": 0.0}, **BY)
    )


def test_without_marks(submission: Path) -> None:
    """Without marks, every record is self-reported."""
    store, _ = first(submission)
    levels = verification_level.read_levels(store)
    assert (len(levels), set(levels.values())) == (14, {"self-reported"})


def test_a_mark(submission: Path) -> None:
    """A mark is read as it was written, and the record does not change."""
    store, key = first(submission)
    before = store.record_path(key).read_bytes()
    path = mark(store, key, "checked")
    assert path == submission / "marks" / f"{key}.json"
    assert decode(path.read_bytes())["came"] == {"difference": 0.0}
    assert store.record_path(key).read_bytes() == before
    levels = verification_level.read_levels(store)
    assert levels.pop(key) == "checked"
    assert set(levels.values()) == {"self-reported"}


def test_the_higher_level_stays(submission: Path) -> None:
    """A check does not lower the level of a verified record."""
    store, key = first(submission)
    mark(store, key, "checked")
    mark(store, key, "verified")
    mark(store, key, "checked")
    assert verification_level.read_levels(store)[key] == "verified"


def test_a_mark_of_a_changed_record(submission: Path, edit: Edit) -> None:
    """The mark does not count once the record has changed, and a new mark replaces it."""
    store, key = first(submission)
    mark(store, key, "verified")
    edit(submission, key, environment__host="elsewhere")
    assert verification_level.read_levels(store)[key] == "self-reported"
    mark(store, key, "checked")
    assert verification_level.read_levels(store)[key] == "checked"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "splendid"},
        {"kind": 7},
        {"mark": 2},
        {"key": "0" * 40},
        {"record_sha256": "0" * 64},
        {"more": 1},
    ],
    ids=str,
)
def test_a_mark_that_cannot_be_trusted(submission: Path, change: dict[str, Any]) -> None:
    """A mark with a wrong field does not count, although its checksum is correct."""
    store, key = first(submission)
    path = mark(store, key, "verified")
    path.write_bytes(encode(decode(path.read_bytes()) | change))
    assert verification_level.read_levels(store)[key] == "self-reported"


def test_damaged_and_stray_marks(submission: Path) -> None:
    """Damaged marks and marks without a record do not count."""
    store, key = first(submission)
    path = mark(store, key, "verified")
    path.write_bytes(path.read_bytes()[:-9])
    (submission / "marks" / f"{'0' * 40}.json").write_text("{}")
    assert set(verification_level.read_levels(store).values()) == {"self-reported"}


def test_a_column_of_marks(submission: Path) -> None:
    """Each run of a frame has its level; an unknown run is self-reported."""
    store, key = first(submission)
    mark(store, key, "checked")
    runs = load(submission).runs
    levels = verification_level.add_marks(runs, verification_level.read_levels(store))
    assert levels.loc[levels["key"] == key, "mark"].tolist() == ["checked"]
    assert levels["mark"].value_counts().to_dict() == {"self-reported": 13, "checked": 1}
    assert set(verification_level.add_marks(runs, {})["mark"]) == {"self-reported"}
    assert "mark" not in runs


def cells(levels: pd.Series) -> dict[tuple[str, float], object]:
    named = levels.reset_index().set_index(["method", "density_asked"])[levels.name]
    return dict(named.items())  # type: ignore[arg-type]


def test_a_cell_has_the_lowest_level_of_its_runs(submission: Path) -> None:
    """A cell is verified only if all of its seeds are."""
    runs = load(submission).runs
    snip = runs[runs["method"] == "snip"]
    dense, half = (snip.loc[snip["density_asked"] == density, "key"] for density in (0.1, 0.5))
    known = dict.fromkeys(dense, "verified") | {half.iloc[0]: "verified", half.iloc[1]: "checked"}
    levels = verification_level.cell_levels(runs, known)
    assert list(levels.index.names) == CELL
    assert cells(levels)["snip", 0.1] == "verified"
    assert cells(levels)["snip", 0.5] == "checked"
    assert cells(levels)["magnitude", 0.1] == "self-reported"


def test_a_run_without_an_accuracy_needs_no_mark(submission: Path) -> None:
    """A lost run does not lower its cell; a cell without any accuracy is self-reported."""
    runs = load(submission).runs
    snip = (runs["method"] == "snip") & (runs["density_asked"] == 0.1)
    known = dict.fromkeys(runs["key"], "verified")
    lost = runs[snip].index[0]
    runs.loc[lost, "accuracy"] = float("nan")
    del known[runs.loc[lost, "key"]]
    assert cells(verification_level.cell_levels(runs, known))["snip", 0.1] == "verified"
    runs.loc[snip, "accuracy"] = float("nan")
    assert cells(verification_level.cell_levels(runs, known))["snip", 0.1] == "self-reported"

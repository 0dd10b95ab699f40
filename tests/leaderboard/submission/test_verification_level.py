"""Marks lie apart from records, and count as long as the record is the one that they speak of."""

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


def test_without_marks(sound: Path) -> None:
    """Every record is self-reported."""
    store, _ = first(sound)
    found = verification_level.read_levels(store)
    assert (len(found), set(found.values())) == (14, {"self-reported"})


def test_a_mark(sound: Path) -> None:
    """It is what was written, in a sealed file that leaves the record as it is."""
    store, key = first(sound)
    before = store.record_path(key).read_bytes()
    path = mark(store, key, "checked")
    assert path == sound / "marks" / f"{key}.json"
    assert decode(path.read_bytes())["came"] == {"difference": 0.0}
    assert store.record_path(key).read_bytes() == before
    found = verification_level.read_levels(store)
    assert found.pop(key) == "checked"
    assert set(found.values()) == {"self-reported"}


def test_the_higher_mark_stays(sound: Path) -> None:
    """What was verified is not less for being checked afterwards."""
    store, key = first(sound)
    mark(store, key, "checked")
    mark(store, key, "verified")
    mark(store, key, "checked")
    assert verification_level.read_levels(store)[key] == "verified"


def test_a_mark_of_other_bytes(sound: Path, edit: Edit) -> None:
    """It does not count once the record is another, and gives way to a new one."""
    store, key = first(sound)
    mark(store, key, "verified")
    edit(sound, key, environment__host="elsewhere")
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
def test_a_mark_that_cannot_be_trusted(sound: Path, change: dict[str, Any]) -> None:
    """It does not count, though its seal fits."""
    store, key = first(sound)
    path = mark(store, key, "verified")
    path.write_bytes(encode(decode(path.read_bytes()) | change))
    assert verification_level.read_levels(store)[key] == "self-reported"


def test_damaged_and_stray_marks(sound: Path) -> None:
    """Neither bytes that are no mark nor marks of no record count."""
    store, key = first(sound)
    path = mark(store, key, "verified")
    path.write_bytes(path.read_bytes()[:-9])
    (sound / "marks" / f"{'0' * 40}.json").write_text("{}")
    assert set(verification_level.read_levels(store).values()) == {"self-reported"}


def test_a_column_of_marks(sound: Path) -> None:
    """Each run of a frame has its mark, and one that is not known is self-reported."""
    store, key = first(sound)
    mark(store, key, "checked")
    runs = load(sound).runs
    found = verification_level.add_marks(runs, verification_level.read_levels(store))
    assert found.loc[found["key"] == key, "mark"].tolist() == ["checked"]
    assert found["mark"].value_counts().to_dict() == {"self-reported": 13, "checked": 1}
    assert set(verification_level.add_marks(runs, {})["mark"]) == {"self-reported"}
    assert "mark" not in runs


def cells(found: pd.Series) -> dict[tuple[str, float], object]:
    named = found.reset_index().set_index(["method", "density_asked"])[found.name]
    return dict(named.items())  # type: ignore[arg-type]


def test_a_cell_is_as_good_as_its_least_run(sound: Path) -> None:
    """Of two seeds both are verified, or the cell may not lead."""
    runs = load(sound).runs
    snip = runs[runs["method"] == "snip"]
    dense, half = (snip.loc[snip["density_asked"] == density, "key"] for density in (0.1, 0.5))
    known = dict.fromkeys(dense, "verified") | {half.iloc[0]: "verified", half.iloc[1]: "checked"}
    found = verification_level.cell_levels(runs, known)
    assert list(found.index.names) == CELL
    assert cells(found)["snip", 0.1] == "verified"
    assert cells(found)["snip", 0.5] == "checked"
    assert cells(found)["magnitude", 0.1] == "self-reported"
    may = verification_level.may_lead(runs, known)
    assert may.dtype == bool
    assert [cell for cell, leads in cells(may).items() if leads] == [("snip", 0.1)]


def test_a_run_without_an_accuracy_asks_for_no_mark(sound: Path) -> None:
    """What diverged or is missing takes no rank; a cell without any accuracy may not lead."""
    runs = load(sound).runs
    snip = (runs["method"] == "snip") & (runs["density_asked"] == 0.1)
    known = dict.fromkeys(runs["key"], "verified")
    lost = runs[snip].index[0]
    runs.loc[lost, "accuracy"] = float("nan")
    del known[runs.loc[lost, "key"]]
    assert cells(verification_level.may_lead(runs, known))["snip", 0.1]
    runs.loc[snip, "accuracy"] = float("nan")
    assert not cells(verification_level.may_lead(runs, known))["snip", 0.1]

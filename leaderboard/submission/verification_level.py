"""Marks: what maintainers found out about a record by running it again.

    <store>/marks/KEY.json      sealed: of which record (the sha256 of its file), the kind, by
                                which code, when, what came

A mark lies apart from the record, which is never touched, and counts only as long as the record
has the bytes that it speaks of. Only maintainers add marks: validation refuses a submission that
brings any, and what is in a store of one's own says what one did oneself.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from paibench.benchmark.store.atomic import read, replace_atomic
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.store import Store
from paibench.leaderboard.stats.summary import CELL

Kind = Literal["self-reported", "checked", "verified"]
KINDS: tuple[Kind, ...] = ("self-reported", "checked", "verified")
"""From the least to the most: nobody ran it again; its mask was trained again; it was found and
trained again, with fresh seeds too."""

MARK = 1


@dataclass(frozen=True)
class Mark:
    """One mark: the record it speaks of, how it was come by, and what came."""

    key: str
    kind: Kind
    record_sha256: str
    paibench: str
    commit: str | None
    device: str
    torch: str
    when: str
    came: Mapping[str, Any]

    @classmethod
    def now(cls, store: Store, key: str, kind: Kind, came: Mapping[str, Any], **by: Any) -> "Mark":
        """A mark of a store's record as it is now. `by` are paibench, commit, device and torch."""
        record = sha256(read(store.record_path(key))).hexdigest()
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(key, kind, record, when=when, came=came, **by)


def write(store: Store, mark: Mark) -> Path:
    """Put a mark into a store, in the place of one that says less or speaks of other bytes.

    Raises StoreError where the store cannot be written.
    """
    path = _path(store, mark.key)
    there = find(store, mark.key)
    if there and KINDS.index(there.kind) > KINDS.index(mark.kind):
        return path
    path.parent.mkdir(exist_ok=True)
    plain = {name: value for name, value in vars(mark).items() if name != "came"}
    replace_atomic(path, encode({"mark": MARK, **plain, "came": dict(mark.came)}))
    return path


def find(store: Store, key: str) -> Mark | None:
    """The mark of a record; None where there is none that can be trusted and fits its bytes."""
    with suppress(OSError, Corrupt, TypeError, KeyError):
        plain = decode(read(_path(store, key)))
        if plain.pop("mark") == MARK:
            mark = Mark(**plain)
            record = sha256(read(store.record_path(key))).hexdigest()
            if (mark.key, mark.record_sha256) == (key, record) and mark.kind in KINDS:
                return mark
    return None


def of(store: Store) -> dict[str, Kind]:
    """The mark of every record of a store by key; those without one are self-reported."""
    marked = {path.stem for path in (store.root / "marks").glob("*.json")}
    found: dict[str, Kind] = {}
    for key in sorted(store.listing().done):
        mark = find(store, key) if key in marked else None
        found[key] = mark.kind if mark else "self-reported"
    return found


def with_marks(runs: pd.DataFrame, marks: Mapping[str, str]) -> pd.DataFrame:
    """A frame of runs with the column `mark`; a run that `marks` does not know is self-reported."""
    return runs.assign(mark=[marks.get(key, KINDS[0]) for key in runs["key"]])


def of_cells(runs: pd.DataFrame, marks: Mapping[str, str]) -> pd.Series:
    """The mark of each cell of a frame of runs, by the columns of `CELL`.

    A cell is as good as the least of its runs that gave an accuracy; a cell without any, and a
    run that `marks` does not know, is self-reported.
    """
    places = {kind: place for place, kind in enumerate(KINDS)}
    place = with_marks(runs, marks)["mark"].map(places)
    counted = runs.assign(place=place).dropna(subset=["accuracy"]).groupby(CELL)["place"].min()
    cells = runs.groupby(CELL).size().index
    least = counted.reindex(cells, fill_value=0)
    return least.map(dict(enumerate(KINDS))).astype("str").rename("mark")


def may_lead(runs: pd.DataFrame, marks: Mapping[str, str]) -> pd.Series:
    """Whether each cell of a frame of runs may hold a rank from 1 to 3: all of it is verified.

    A boolean per cell, by the columns of `CELL`. It is the rule of a public leaderboard; in a
    store of one's own nothing is verified, and the rule would leave no rank.
    """
    return (of_cells(runs, marks) == "verified").rename("may_lead")


def _path(store: Store, key: str) -> Path:
    return store.root / "marks" / f"{store.record_path(key).stem}.json"

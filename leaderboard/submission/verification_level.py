"""Marks: what maintainers established about a record by running it again.

A mark is a file of its own, `<store>/marks/KEY.json`. It names the bytes of the record (the sha256
of its file), the level, the code, the device, the time and the evidence. The record itself is never
changed, and a mark counts only as long as the record has these bytes. Only maintainers add marks:
validation refuses a submission that contains any.
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

Level = Literal["self-reported", "checked", "verified"]
LEVELS: tuple[Level, ...] = ("self-reported", "checked", "verified")
"""From the lowest to the highest: nobody ran it again; its mask was trained again; the mask was
searched and trained again, also with fresh seeds."""

MARK = 1  # the version of the format of a mark


@dataclass(frozen=True)
class Mark:
    """The level of one record, with the evidence and with the code and device that gave it."""

    key: str
    level: Level
    record_sha256: str
    paibench: str
    commit: str | None
    device: str
    torch: str
    when: str
    evidence: Mapping[str, Any]

    @classmethod
    def now(
        cls, store: Store, key: str, level: Level, evidence: Mapping[str, Any], **by: Any
    ) -> "Mark":
        """Return a mark of a record of a store; `by` has paibench, commit, device and torch."""
        record = sha256(read(store.record_path(key))).hexdigest()
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(key, level, record, when=when, evidence=evidence, **by)


def write_mark(store: Store, mark: Mark) -> Path:
    """Write a mark into a store, unless the record has a mark of a higher level.

    Raises StoreError if the store cannot be written.
    """
    path = _path(store, mark.key)
    present = read_mark(store, mark.key)
    # A check that repeats less than an earlier one must not lower its result.
    if present and LEVELS.index(present.level) > LEVELS.index(mark.level):
        return path
    path.parent.mkdir(exist_ok=True)
    plain = dict(vars(mark))
    # On disk these two fields have other names, which existing stores keep.
    plain["kind"], plain["came"] = plain.pop("level"), dict(plain.pop("evidence"))
    replace_atomic(path, encode({"mark": MARK, **plain}))
    return path


def read_mark(store: Store, key: str) -> Mark | None:
    """Return the mark of a record, or None if it has no intact mark of its present bytes."""
    with suppress(OSError, Corrupt, TypeError, KeyError):
        plain = decode(read(_path(store, key)))
        if plain.pop("mark") == MARK:
            mark = Mark(level=plain.pop("kind"), evidence=plain.pop("came"), **plain)
            record = sha256(read(store.record_path(key))).hexdigest()
            if (mark.key, mark.record_sha256) == (key, record) and mark.level in LEVELS:
                return mark
    return None


def log_try(store: Store, key: str, facts: Mapping[str, Any], number: int | None = None) -> int:
    """Add a try at verifying a record to its log, or replace the one of this number.

    Returns the number of the try, counted from 1. So a try that was stopped or that refused the
    claim is seen as well as one that gave a mark. Raises StoreError, and Corrupt for a log that
    cannot be read.
    """
    path = _path(store, key).with_suffix(".tries.json")
    tries = decode(read(path))["tries"] if path.exists() else []
    number = number or len(tries) + 1
    tries[number - 1 :] = [dict(facts)]
    path.parent.mkdir(exist_ok=True)
    replace_atomic(path, encode({"tries": tries}))
    return number


def read_levels(store: Store) -> dict[str, Level]:
    """Return the level of every record of a store by key; without a mark it is self-reported."""
    # Listing the marks once is cheaper than one failed read for each of many thousand records.
    marked = {path.stem for path in (store.root / "marks").glob("*.json")}
    levels: dict[str, Level] = {}
    for key in sorted(store.listing().done):
        mark = read_mark(store, key) if key in marked else None
        levels[key] = mark.level if mark else "self-reported"
    return levels


def add_marks(runs: pd.DataFrame, levels: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame of runs with the column `mark`; unknown runs are self-reported."""
    return runs.assign(mark=[levels.get(key, LEVELS[0]) for key in runs["key"]])


def cell_levels(runs: pd.DataFrame, levels: Mapping[str, str]) -> pd.Series:
    """Return the level of each cell of a frame of runs, as `mark` by the columns of `CELL`.

    A cell has the lowest level of its runs that have an accuracy. It is self-reported if it has no
    such run, or a run that is not in `levels`.
    """
    rank = add_marks(runs, levels)["mark"].map({level: rank for rank, level in enumerate(LEVELS)})
    counted = runs.assign(rank=rank).dropna(subset=["accuracy"]).groupby(CELL)["rank"].min()
    cells = runs.groupby(CELL).size().index
    lowest = counted.reindex(cells, fill_value=0)
    return lowest.map(dict(enumerate(LEVELS))).astype("str").rename("mark")


def _path(store: Store, key: str) -> Path:
    return store.root / "marks" / f"{store.record_path(key).stem}.json"

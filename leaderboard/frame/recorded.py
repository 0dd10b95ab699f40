"""The records of one store as rows; those of a large one are read by two processes."""

import gc
import marshal
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from paibench.benchmark.record import Record
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode
from paibench.benchmark.store.layout import SHARDS
from paibench.benchmark.store.records import Problem
from paibench.benchmark.store.store import Store
from paibench.leaderboard.frame.rows import Rows, one_line, values

_RESULTS = ("done", "diverged")
_MIDDLE = len(SHARDS) // 2
_MANY = 40  # records in a shard from which a second process pays: 10,000 in the store


class RunState(IntEnum):
    """What is known of a run, the best first."""

    RESULT = 0
    NO_RESULT = 1  # a record that says why
    FAILED = 2
    MISSING = 3


class Run(NamedTuple):
    """What is known of a run, and its row as `rows.values`."""

    kind: RunState
    values: tuple[Any, ...]


def recorded(store: Store, rows: Rows) -> tuple[dict[str, Run], list[Problem]]:
    """The runs of all records by key, and the files that are no records, in the order of keys."""
    if not _large(store):
        return _read(store, rows, SHARDS)
    first, last = SHARDS[:_MIDDLE], SHARDS[_MIDDLE:]
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(_elsewhere, store)
        runs, problems = _read(store, rows, first)
        more, others = second.result() or _read(store, rows, last)
    return {**runs, **more}, [*problems, *others]


def _elsewhere(store: Store) -> tuple[dict[str, Run], list[Problem]] | None:
    """The second half of a store, read by a process of its own; None where that fails."""
    command = [sys.executable, "-P", "-m", __name__, str(store.root)]
    with suppress(OSError, subprocess.CalledProcessError):  # as where there is no memory for two
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return _unpacked(done.stdout)
    return None


def _large(store: Store) -> bool:
    """Whether a second process pays; keys are digests, so that all shards are alike."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not sys.executable or (cores or 1) < 2:
        return False
    with suppress(OSError):
        return all(
            sum(name.endswith(".json") for name in os.listdir(store.root / "runs" / shard)) >= _MANY
            for shard in (SHARDS[0], SHARDS[-1])
        )
    return False


def _read(store: Store, rows: Rows, shards: list[str]) -> tuple[dict[str, Run], list[Problem]]:
    runs, problems = {}, []
    for entry in store.records(shards):
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        try:
            row = rows.of(*Record.with_spec(entry.record))
        except (ValueError, ArithmeticError) as error:  # a huge whole number overflows
            problems.append(Problem(entry.path, f"is no record: {one_line(error)}"))
            continue
        row["conflict"] = _conflict(f"{str(entry.path).removesuffix('.json')}/attempts")
        kind = RunState.RESULT if row["status"] in _RESULTS else RunState.NO_RESULT
        runs[row["key"]] = Run(kind, values(row))
    return runs, problems


def _conflict(attempts: str) -> str | None:
    """The fields in which a later attempt at this run came out different, if any did."""
    fields: set[str] = set()
    with suppress(FileNotFoundError, NotADirectoryError):
        names = os.listdir(attempts)
        for name in names if len(names) > 1 else ():
            with suppress(OSError, Corrupt):
                note = decode(read(Path(attempts, name, "divergence.json")))
                fields.update(map(str, note.get("fields", ())))
    return ", ".join(sorted(fields)) or None


def _packed(runs: dict[str, Run], problems: list[Problem]) -> bytes:
    plain = [(key, int(kind), values) for key, (kind, values) in runs.items()]
    return marshal.dumps((plain, [(os.fsencode(path), reason) for path, reason in problems]))


def _unpacked(data: bytes) -> tuple[dict[str, Run], list[Problem]]:
    plain, problems = marshal.loads(data)
    kinds = list(RunState)
    return (
        {key: Run(kinds[kind], values) for key, kind, values in plain},
        [Problem(Path(os.fsdecode(path)), reason) for path, reason in problems],
    )


if __name__ == "__main__":
    gc.disable()
    half = _read(Store.read(sys.argv[1]), Rows(), SHARDS[_MIDDLE:])
    sys.stdout.buffer.write(_packed(*half))

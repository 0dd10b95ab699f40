"""The runs that stores know of, as rows: records, failures, and runs that sweeps still miss."""

import gc
import marshal
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from paibench.benchmark.record import VOLATILE, Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode
from paibench.benchmark.store.layout import SHARDS
from paibench.benchmark.store.records import Problem
from paibench.benchmark.store.store import Store
from paibench.leaderboard.frame.columns import RESULT
from paibench.leaderboard.frame.other_process import cores, output_of
from paibench.leaderboard.frame.rows import STORED, Rows, one_line, values

_RESULTS = ("done", "diverged")
_MAX_SWEEP_BYTES = 2**26
_CONFLICT = STORED.index("conflict")
# The columns in which two records of one run must agree; the schema is only how they are written.
COMPARED = [
    (index, name)
    for index, name in enumerate(STORED)
    if name in RESULT and name not in {*VOLATILE, "schema"}
]


class RunState(IntEnum):
    """What is known of a run, the best first."""

    RESULT = 0
    NO_RESULT = 1  # a record that says why
    FAILED = 2
    MISSING = 3


class Run(NamedTuple):
    """What is known of a run, and its row as `rows.values`."""

    state: RunState
    values: tuple[Any, ...]


class StoreRuns(NamedTuple):
    """The runs of a store by key, records first, and the files that cannot be read."""

    runs: dict[str, Run]
    problems: list[Problem]


def read_store(root: Path) -> StoreRuns:
    """Return every run that a store knows of. Raises UserError if there is no store."""
    store = Store.read(root)
    rows = Rows()
    runs, problems = _records(store, rows)
    requested, broken_sweeps = _sweeps(store)
    unreadable = {problem.path.stem: problem.reason for problem in problems}
    recorded_keys = set(runs)
    for key in sorted(store.listing().failed):
        recorded_keys.add(key)
        note = store.last_failure(key) or {}
        plain = note.get("spec") or requested.get(key)
        reason = str(note.get("reason") or "its failure note cannot be read")
        path = store.record_path(key).with_suffix(".failed")
        run = _without_record(rows, RunState.FAILED, path, key, plain, reason)
        _add(runs, problems, key, run)
    for key in sorted(requested.keys() - recorded_keys):
        why = f"its record cannot be read: {unreadable[key]}" if key in unreadable else None
        path = store.root / "sweeps"
        run = _without_record(rows, RunState.MISSING, path, key, requested[key], why)
        _add(runs, problems, key, run)
    problems.extend(broken_sweeps)
    return StoreRuns(runs, problems)


def merge(stores: Sequence[Mapping[str, Run]]) -> dict[str, Run]:
    """Return the runs of several stores, one for each key.

    The best state wins; of equal states that of the first store. If two records differ in columns
    that must be equal bit for bit, the `conflict` of the run names these columns.
    """
    runs: dict[str, Run] = {}
    for store in stores:
        for key, run in store.items():
            runs[key] = _better(runs[key], run) if key in runs else run
    return dict(
        sorted(runs.items(), key=lambda item: (max(item[1].state, RunState.NO_RESULT), item[0]))
    )


def _better(first: Run, second: Run) -> Run:
    if first.state != second.state:
        return min(first, second, key=lambda run: run.state)
    if first.state > RunState.NO_RESULT:
        return first
    ours, theirs = first.values, second.values
    fields = {name for index, name in COMPARED if ours[index] != theirs[index]}
    for conflicts in (ours[_CONFLICT], theirs[_CONFLICT]):
        fields.update(conflicts.split(", ") if conflicts else ())
    conflict = ", ".join(sorted(fields)) or None
    return Run(first.state, (*ours[:_CONFLICT], conflict, *ours[_CONFLICT + 1 :]))


def _sweeps(store: Store) -> tuple[dict[str, Any], list[Problem]]:
    """Return the specs of all sweeps by key, as plain values that are not checked."""
    specs: dict[str, Any] = {}
    problems = []
    for path in sorted((store.root / "sweeps").glob("[!.]*.json")):
        try:
            runs = decode(read(path, _MAX_SWEEP_BYTES)).get("runs")
            if not isinstance(runs, Mapping):
                raise Corrupt("it has no runs")
            specs.update(runs)
        except (Corrupt, OSError) as error:
            problems.append(Problem(path, f"is no sweep: {one_line(error)}"))
    return specs, problems


def _without_record(
    rows: Rows, state: RunState, path: Path, key: str, plain: Any, reason: str | None
) -> Run | Problem:
    """Return a run without a record, or a problem if its spec is not known."""
    status = state.name.lower()
    try:
        spec = Spec.read(plain)
        if spec.key != key:
            raise ValueError(f"the key {key} is not that of its spec")
    except (ValueError, ArithmeticError) as error:
        prefix = f"{status} ({reason}), " if reason else ""
        cause = one_line(error) if plain else "no sweep of the store has its spec"
        return Problem(path, f"{prefix}run {key}: {cause}")
    return Run(state, values({**rows.of_spec(spec, key), "status": status, "reason": reason}))


def _add(runs: dict[str, Run], problems: list[Problem], key: str, run: Run | Problem) -> None:
    if isinstance(run, Problem):
        problems.append(run)
    else:
        runs[key] = run


# Records. A large store is read by two processes.

_MIDDLE = len(SHARDS) // 2
_MANY = 40  # records in a shard from which a second process pays: 10,000 in the store


def _records(store: Store, rows: Rows) -> StoreRuns:
    """Return the runs of all records, and the files that are not records, in the order of keys."""
    if not _is_large(store):
        return _read_shards(store, rows, SHARDS)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(_read_second_half, store)
        runs, problems = _read_shards(store, rows, SHARDS[:_MIDDLE])
        more = second.result() or _read_shards(store, rows, SHARDS[_MIDDLE:])
    return StoreRuns({**runs, **more.runs}, [*problems, *more.problems])


def _read_second_half(store: Store) -> StoreRuns | None:
    """Return the second half of a store, read by another process; None if that process fails."""
    packed = output_of(__name__, str(store.root))
    return None if packed is None else _unpack(packed)


def _is_large(store: Store) -> bool:
    """Return whether a second process pays; keys are digests, so all shards are of similar size."""
    if cores() < 2:
        return False
    with suppress(OSError):
        return all(
            sum(name.endswith(".json") for name in os.listdir(store.root / "runs" / shard)) >= _MANY
            for shard in (SHARDS[0], SHARDS[-1])
        )
    return False


def _read_shards(store: Store, rows: Rows, shards: list[str]) -> StoreRuns:
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
        state = RunState.RESULT if row["status"] in _RESULTS else RunState.NO_RESULT
        runs[row["key"]] = Run(state, values(row))
    return StoreRuns(runs, problems)


def _conflict(attempts: str) -> str | None:
    """Return the fields in which a later attempt at a run gave another result, if there are any."""
    fields: set[str] = set()
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(attempts):
            path = f"{attempts}/{name}/divergence.json"
            if not os.path.exists(path):  # nearly always, and far cheaper than an exception
                continue
            with suppress(OSError, Corrupt):
                note = decode(read(Path(path)))
                fields.update(map(str, note.get("fields", ())))
    return ", ".join(sorted(fields)) or None


def _pack(store_runs: StoreRuns) -> bytes:
    runs = [(key, int(state), values) for key, (state, values) in store_runs.runs.items()]
    # marshal is several times faster than JSON, and both ends are the same Python.
    return marshal.dumps(
        (runs, [(os.fsencode(path), reason) for path, reason in store_runs.problems])
    )


def _unpack(data: bytes) -> StoreRuns:
    runs, problems = marshal.loads(data)
    states = list(RunState)
    return StoreRuns(
        {key: Run(states[state], values) for key, state, values in runs},
        [Problem(Path(os.fsdecode(path)), reason) for path, reason in problems],
    )


if __name__ == "__main__":
    gc.disable()  # the process ends before any garbage matters
    second_half = _read_shards(Store.read(sys.argv[1]), Rows(), SHARDS[_MIDDLE:])
    sys.stdout.buffer.write(_pack(second_half))

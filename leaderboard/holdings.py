"""What a store holds of each run: its record, why it failed, or that a sweep asks for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from paibench.benchmark.commit import read
from paibench.benchmark.entries import Problem
from paibench.benchmark.record import VOLATILE
from paibench.benchmark.seal import Corrupt, unseal
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.leaderboard.columns import GIVEN
from paibench.leaderboard.recorded import Kind, Run, recorded
from paibench.leaderboard.rows import STORED, Rows, one_line, values

_LARGEST_SWEEP = 2**26
_CONFLICT = STORED.index("conflict")
# What two records of one run have to agree in; the schema is their form, not what they say.
COMPARED = [
    (place, name)
    for place, name in enumerate(STORED)
    if name in GIVEN and name not in {*VOLATILE, "schema"}
]


class Holdings(NamedTuple):
    """The runs of a store by key, records first, and what cannot be read."""

    runs: dict[str, Run]
    problems: list[Problem]


def holdings(root: Path) -> Holdings:
    """Every run that a store knows of. Raises UserError where there is no store."""
    store = Store.read(root)
    rows = Rows()
    runs, problems = recorded(store, rows)
    asked, broken_sweeps = _asked(store)
    unreadable = {problem.path.stem: problem.reason for problem in problems}
    known = set(runs)
    found = Holdings(runs, problems)
    for key in sorted(store.listing().failed):
        note = store.last_failure(key) or {}
        plain = note.get("spec") or asked.get(key)
        reason = str(note.get("reason") or "its failure note cannot be read")
        known.add(key)
        path = store.record_path(key).with_suffix(".failed")
        _add(found, rows, Kind.FAILED, path, key, plain, reason)
    for key in sorted(asked.keys() - known):
        why = f"its record cannot be read: {unreadable[key]}" if key in unreadable else None
        _add(found, rows, Kind.MISSING, store.root / "sweeps", key, asked[key], why)
    problems.extend(broken_sweeps)
    return found


def merged(several: list[dict[str, Run]]) -> dict[str, Run]:
    """The runs of several stores, one of each key.

    The best kind stands, of equal ones that of the first store; where two records differ in what
    is equal bit for bit whoever makes it, its `conflict` names the fields.
    """
    runs: dict[str, Run] = {}
    for more in several:
        for key, run in more.items():
            there = runs.get(key)
            runs[key] = run if there is None else _better(there, run)
    return dict(sorted(runs.items(), key=lambda each: (max(each[1].kind, Kind.NO_RESULT), each[0])))


def _better(first: Run, second: Run) -> Run:
    if first.kind != second.kind:
        return min(first, second, key=lambda run: run.kind)
    if first.kind > Kind.NO_RESULT:
        return first
    ours, theirs = first.values, second.values
    fields = {name for place, name in COMPARED if ours[place] != theirs[place]}
    for said in (ours[_CONFLICT], theirs[_CONFLICT]):
        fields.update(said.split(", ") if said else ())
    conflict = ", ".join(sorted(fields)) or None
    return Run(first.kind, (*ours[:_CONFLICT], conflict, *ours[_CONFLICT + 1 :]))


def _asked(store: Store) -> tuple[dict[str, Any], list[Problem]]:
    """The specs of all sweeps by key, as they stand in the files."""
    specs: dict[str, Any] = {}
    problems = []
    for path in sorted((store.root / "sweeps").glob("[!.]*.json")):
        try:
            runs = unseal(read(path, _LARGEST_SWEEP)).get("runs")
            if not isinstance(runs, Mapping):
                raise Corrupt("it has no runs")
            specs.update(runs)
        except (Corrupt, OSError) as error:
            problems.append(Problem(path, f"is no sweep: {one_line(error)}"))
    return specs, problems


def _add(
    found: Holdings, rows: Rows, kind: Kind, path: Path, key: str, plain: Any, reason: str | None
) -> None:
    """Add a run without a record; where what was asked for is not known, a problem."""
    status = kind.name.lower()
    try:
        spec = Spec.read(plain)
        if spec.key != key:
            raise ValueError(f"the key {key} is not that of its spec")
    except (ValueError, ArithmeticError) as error:
        said = f"{status} ({reason}), " if reason else ""
        what = one_line(error) if plain else "no sweep of the store says what it was"
        found.problems.append(Problem(path, f"{said}run {key}: {what}"))
    else:
        row = {**rows.asked(spec, key), "status": status, "reason": reason}
        found.runs[key] = Run(kind, values(row))

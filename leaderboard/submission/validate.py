"""Holding a submission to all that can be checked without running it again."""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode
from paibench.benchmark.store.layout import check
from paibench.leaderboard.submission.baseline import NOTHING, Reference
from paibench.leaderboard.submission.checks import files as file_checks
from paibench.leaderboard.submission.checks import provenance as provenance_checks
from paibench.leaderboard.submission.checks import record as record_checks
from paibench.leaderboard.submission.checks.cross import Run, together
from paibench.leaderboard.submission.findings import (
    SEVERITIES,
    Fault,
    Finding,
    finding,
    shown,
)
from paibench.leaderboard.submission.open import Submitted, open_record
from paibench.leaderboard.submission.scan import SWEEP_LIMIT, Tree, scan, stores
from paibench.methods.core.registry import UserError


@dataclass(frozen=True)
class Report:
    """What validation found in a folder: how much was read, and every finding, errors first."""

    root: Path
    records: int
    new: int
    """Records that the reference does not have."""
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is an error."""
        return not any(found.severity == "error" for found in self.findings)


def validate(root: Path, against: Path | None = None, now: datetime | None = None) -> Report:
    """Check a store, or a folder of stores, as a submission. Nothing of it is run or changed.

    `against` is what is published: its records are not judged again, and must not be changed; a
    folder of stores is held to have all of them still. `now` is the time that dates are held
    against. Raises UserError where there is no store to read.
    """
    whole, trees = _trees(root)
    reference = _reference(against) if against else NOTHING
    now = now or datetime.now(UTC)
    findings: list[Finding] = []
    runs: list[Run] = []
    for tree in trees:
        findings += tree.findings
        runs += _records(tree, reference, now, findings)
        findings += _sweeps(tree, reference)
        findings += _marks(tree, reference)
    findings += _twice(trees)
    published = reference.runs({run.record.key for run in runs})
    number = sum(len(tree.records) for tree in trees)
    beside_each_other = together([*runs, *published], complete=len(runs) == number)
    findings += [finding(run.file, run.record.key, fault) for run, fault in beside_each_other]
    findings += reference.lost(trees) if whole else ()
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    findings.sort(key=lambda found: (order[found.severity], found.file, found.check))
    new = sum(run.new for run in runs)
    return Report(root, number, new, tuple(findings))


def _trees(root: Path) -> tuple[bool, list[Tree]]:
    """Whether this is a folder of stores, and what lies in them."""
    if root.is_symlink():  # which in a pull request could lead to what is published
        raise UserError(f"{str(root)!r:.200}: is a link; name the folder itself")
    try:
        found = list(stores(root))
        if not found:
            raise UserError(f"{str(root)!r:.200}: there is no store in it; name a store")
        for _, folder in found:
            check(folder)
        whole = found[0][0] != ""
        trees = [scan(folder, f"{name}/" if whole else "") for name, folder in found]
        if whole:
            trees[0].findings += _strangers(root, {name for name, _ in found})
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{str(root)!r:.200}: cannot be read: {reason}; name a store") from error
    return whole, trees


def _strangers(root: Path, known: set[str]) -> Iterator[Finding]:
    for name in sorted(set(os.listdir(root)) - known):
        fault = Fault("unknown", "folders that are stores", "another file or folder")
        yield finding(name, None, fault)


def _reference(root: Path) -> Reference:
    return Reference(_trees(root)[1])


def _records(
    tree: Tree, reference: Reference, now: datetime, findings: list[Finding]
) -> Iterator[Run]:
    """The records of a store that can be trusted to be records, with what is wrong in them."""
    for key, path in sorted(tree.records.items()):
        file, files = tree.shown(path), tree.beside.get(key, {})
        opened = open_record(path, key)
        published = reference.digests.get(key)
        same = published is not None and published == opened.sha256
        if published is None:
            faults = [
                *opened.faults,
                *(_of_record(opened.found, files, now) if opened.found else ()),
            ]
        elif not same:
            faults = [Fault("changed", f"sha256 {published[:16]}", "other bytes")]
        else:
            faults = list(_of_added(opened.found, files, reference.beside(key)))
        findings += [finding(file, key, fault) for fault in faults]
        if opened.found and (same or published is None):
            yield Run(file, opened.found, new=not same)


def _of_added(
    found: Submitted | None, files: Mapping[str, Path], published: Collection[str]
) -> Iterator[Fault]:
    """Of a mask or a curve that comes to a published record."""
    added = files.keys() - published
    if found and found.record.mask_file in added:
        yield from file_checks.mask(found.record, files)
    if found and found.record.curve_file in added:
        yield from file_checks.curve(found.record, found.spec, files)


def _of_record(found: Submitted, files: Mapping[str, Path], now: datetime) -> Iterator[Fault]:
    record, spec = found.record, found.spec
    yield from record_checks.protocol(record)
    yield from record_checks.outcome(record)
    yield from record_checks.dates(record, now)
    yield from record_checks.ranges(record)
    yield from record_checks.counts(record, spec)
    yield from record_checks.best(record)
    yield from record_checks.texts(record)
    yield from provenance_checks.code(record)
    yield from provenance_checks.plugin(record, spec)
    yield from file_checks.mask(record, files)
    yield from file_checks.curve(record, spec, files)


def _sweeps(tree: Tree, reference: Reference) -> Iterator[Finding]:
    """Sweeps are what they are named, and what they ask for is there."""
    for path in tree.sweeps:
        file = tree.shown(path)
        try:
            plain = decode(read(path, SWEEP_LIMIT))
            name, runs = plain["name"], plain["runs"]
            keys = sorted(Spec.model_validate(spec).key for spec in runs.values())
            again = sha256(json.dumps([name, keys]).encode()).hexdigest()[:40]
        except (Corrupt, OSError) as error:
            yield finding(file, None, Fault("sweep", "an intact sweep", shown(str(error))))
            continue
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
            yield finding(file, None, Fault("sweep", "a name and runs with specs", "others"))
            continue
        if (again, keys) != (path.stem, sorted(runs)):
            yield finding(file, None, Fault("sweep", f"{again}.json", path.name))
        elif not reference.has_sweep(path.name):
            lacking = runs.keys() - tree.records.keys() - reference.digests.keys()
            if lacking:
                came = f"{len(lacking)} of {len(runs)} are missing, as {min(lacking)}"
                yield finding(file, None, Fault("missing", "all of its runs", came, "warning"))


def _marks(tree: Tree, reference: Reference) -> Iterator[Finding]:
    for path in tree.marks:
        if reference.marks.get(path.stem) != _digest(path):
            yield finding(tree.shown(path), path.stem, Fault("mark", "no marks", "a mark"))


def _twice(trees: list[Tree]) -> Iterator[Finding]:
    places = defaultdict(list)
    for tree in trees:
        for key, path in tree.records.items():
            places[key].append(tree.shown(path))
    for key, (first, *others) in places.items():
        for file in others:
            yield finding(file, key, Fault("twice", "one record of this run", f"also {first}"))


def _digest(path: Path) -> str | None:
    try:
        return sha256(read(path)).hexdigest()
    except (OSError, Corrupt):
        return None

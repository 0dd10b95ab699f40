"""Validate a submission: apply every check that does not need to run anything again."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, decode
from paibench.benchmark.store.layout import check, stores_in
from paibench.leaderboard.submission.baseline import Baseline, digest
from paibench.leaderboard.submission.checks.cross import Run, cross_check
from paibench.leaderboard.submission.checks.files import check_curve, check_mask, check_predictions
from paibench.leaderboard.submission.checks.known import check_known
from paibench.leaderboard.submission.checks.provenance import check_provenance
from paibench.leaderboard.submission.checks.record import check_record
from paibench.leaderboard.submission.findings import (
    SEVERITIES,
    Fault,
    Finding,
    finding,
    shorten,
)
from paibench.leaderboard.submission.open import Opened, Submitted, open_record
from paibench.leaderboard.submission.scan import SWEEP_LIMIT, StoreFiles, scan
from paibench.methods.core.registry import UserError

PAGES = ("README.md", "LICENSE", "DATA_CARD.md", "croissant.json")
"""The files beside the stores of a folder."""


@dataclass(frozen=True)
class Report:
    """The result of validating a folder: how many records it has, and every finding."""

    root: Path
    records: int
    new: int
    """The number of records that are not published."""
    findings: tuple[Finding, ...]
    """Errors first."""

    @property
    def valid(self) -> bool:
        """Whether no finding is an error."""
        return not any(each.severity == "error" for each in self.findings)


def validate(
    root: Path,
    against: Path | None = None,
    now: datetime | None = None,
    *,
    maintainer: bool = False,
) -> Report:
    """Check a store, or a folder of stores, as a submission. Nothing of it is run or changed.

    `against` is what is published: its records are not checked again and must not have changed,
    and a folder of stores must still contain all of them. `now` replaces the current time in the
    checks of dates. A `maintainer` may add runs to published cells. Raises UserError if there is no
    store to read.
    """
    is_collection, stores = _open_stores(root)
    baseline = Baseline(_open_stores(against)[1]) if against else Baseline()
    now = now or datetime.now(UTC)
    findings: list[Finding] = []
    runs: list[Run] = []
    for store in stores:
        # Records that cannot be opened give no run, so later checks may see too few runs.
        findings += store.findings
        for key, path in sorted(store.records.items()):
            opened, new, faults = _check_record(store, key, baseline, now)
            findings += [finding(store.display(path), key, fault) for fault in faults]
            if opened.submitted and new is not None:
                runs.append(Run(store.display(path), opened.submitted, new))
        findings += _check_sweeps(store, baseline)
        findings += _check_marks(store, baseline)
    findings += _duplicates(stores)
    # New runs are compared with published ones, which are trusted and give no findings.
    published = baseline.runs_except({run.record.key for run in runs})
    number = sum(len(store.records) for store in stores)
    faults_of_runs = cross_check([*runs, *published], len(runs) == number, maintainer)
    findings += [finding(run.file, run.record.key, fault) for run, fault in faults_of_runs]
    # A single store may be a part of what is published, so files may be missing from it.
    findings += baseline.lost(stores) if is_collection else ()
    findings.sort(key=lambda each: (SEVERITIES.index(each.severity), each.file, each.check))
    return Report(root, number, sum(run.new for run in runs), tuple(findings))


def _open_stores(root: Path) -> tuple[bool, list[StoreFiles]]:
    """Return whether `root` is a folder of stores, and the files of each store."""
    if root.is_symlink():  # in a pull request, a link could lead to the published records
        raise UserError(f"{str(root)!r:.200}: is a link; name the folder itself")
    try:
        folders = stores_in(root)
        if not folders:
            raise UserError(f"{str(root)!r:.200}: there is no store in it; name a store")
        for folder in folders:
            check(folder)
        is_collection = folders != [root]
        stores = [scan(each, f"{each.name}/" if is_collection else "") for each in folders]
        if is_collection:
            known = {folder.name for folder in folders} | _pages(root)
            for name in sorted(set(os.listdir(root)) - known):
                fault = Fault("unknown", f"stores, {', '.join(PAGES)}", "another file or folder")
                stores[0].findings.append(finding(name, None, fault))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{str(root)!r:.200}: cannot be read: {reason}; name a store") from error
    return is_collection, stores


def _pages(root: Path) -> set[str]:
    """Return the files beside the stores that say what the data are."""
    paths = (root / name for name in PAGES)
    return {path.name for path in paths if path.is_file() and not path.is_symlink()}


def _check_record(
    store: StoreFiles, key: str, baseline: Baseline, now: datetime
) -> tuple[Opened, bool | None, Sequence[Fault]]:
    """Open a record; return it, whether it is new (None if it is changed), and its faults."""
    opened = open_record(store.records[key], key)
    published = baseline.records.get(key)
    if published is None:
        own = _record_faults(opened.submitted, store, now) if opened.submitted else ()
        return opened, True, [*opened.faults, *own]
    if published != opened.sha256:
        # A changed record must not be used for comparisons, so it gives no run.
        return opened, None, [Fault("changed", f"sha256 {published[:16]}", "other bytes")]
    added = _added_file_faults(opened.submitted, store, baseline) if opened.submitted else ()
    return opened, False, list(added)


def _record_faults(submitted: Submitted, store: StoreFiles, now: datetime) -> Iterator[Fault]:
    record, spec = submitted.record, submitted.spec
    files = store.attachments.get(record.key, {})
    yield from check_record(record, spec, now)
    yield from check_known(record, spec)
    yield from check_provenance(record, spec)
    yield from check_mask(record, files)
    yield from check_curve(record, spec, files)
    yield from check_predictions(record, files)


def _added_file_faults(
    submitted: Submitted, store: StoreFiles, baseline: Baseline
) -> Iterator[Fault]:
    """Check a file that is added to a published record."""
    record = submitted.record
    files = store.attachments.get(record.key, {})
    added = files.keys() - baseline.attachments(record.key)
    if record.mask_file in added:
        yield from check_mask(record, files)
    if record.curve_file in added:
        yield from check_curve(record, submitted.spec, files)
    if record.predictions_file in added:
        yield from check_predictions(record, files)


def _check_sweeps(store: StoreFiles, baseline: Baseline) -> Iterator[Finding]:
    """Check that each sweep has the name of its list of runs, and that its runs exist."""
    for path in store.sweeps:
        file = store.display(path)
        try:
            plain = decode(read(path, SWEEP_LIMIT))
            name, runs = plain["name"], plain["runs"]
            keys = sorted(Spec.model_validate(spec).key for spec in runs.values())
            identifier = sha256(json.dumps([name, keys]).encode()).hexdigest()[:40]
        except (Corrupt, OSError) as error:
            yield finding(file, None, Fault("sweep", "an intact sweep", shorten(str(error))))
            continue
        # The file is JSON of any shape, and pydantic and the key raise errors of different types.
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
            yield finding(file, None, Fault("sweep", "a name and runs with specs", "other fields"))
            continue
        if (identifier, keys) != (path.stem, sorted(runs)):
            yield finding(file, None, Fault("sweep", f"{identifier}.json", path.name))
        elif not baseline.has_sweep(path.name):
            missing = runs.keys() - store.records.keys() - baseline.records.keys()
            if missing:
                actual = f"{len(missing)} of {len(runs)} are missing, for example {min(missing)}"
                yield finding(file, None, Fault("missing", "all of its runs", actual, "warning"))


def _check_marks(store: StoreFiles, baseline: Baseline) -> Iterator[Finding]:
    for path in store.marks:
        if baseline.marks.get(path.stem) != digest(path):
            key = path.stem.partition(".")[0]  # the log of a mark is named after it
            yield finding(store.display(path), key, Fault("mark", "no marks", "a mark"))


def _duplicates(stores: Sequence[StoreFiles]) -> Iterator[Finding]:
    files_of = defaultdict(list)
    for store in stores:
        for key, path in store.records.items():
            files_of[key].append(store.display(path))
    for key, (first, *others) in files_of.items():
        for file in others:
            yield finding(file, key, Fault("duplicate", "one record of this run", f"also {first}"))

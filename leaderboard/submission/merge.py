"""Add the valid records of one store to another without changing what is already there."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from paibench.benchmark.store.atomic import create_once, read
from paibench.benchmark.store.store import Store
from paibench.leaderboard.submission.scan import MASK_LIMIT, SWEEP_LIMIT, scan
from paibench.leaderboard.submission.validate import Report, validate
from paibench.methods.core.registry import UserError

_KINDS = {"mask": "masks", "curve": "curves", "predictions": "predictions"}


@dataclass(frozen=True)
class Merged:
    """The result of a merge: the number of new files of each kind, and the validation report."""

    report: Report
    new: Counter[str]
    """The number of new records, masks, curves, predictions and sweeps."""
    already: int
    """The number of records that the target already had, with the same bytes."""


def merge(source: Path, target: Path, *, dry_run: bool = False, maintainer: bool = False) -> Merged:
    """Copy the records of a store into another, with the files beside them and the sweeps.

    The source is validated against the target; only a `maintainer` adds runs to the cells that it
    has. Nothing is copied if any error is found, nor with `dry_run`. Raises UserError if either is
    not a store, or if both are the same.
    """
    if source.resolve() == target.resolve():
        raise UserError(f"{target}: source and target are the same; name another store")
    into = Store.read(target)
    # A folder of stores can be validated but not merged.
    if "bench.json" not in {path.name for path in source.glob("*.json")}:
        raise UserError(f"{str(source)!r:.200}: is not a paibench store; name one store to merge")
    report = validate(source, target, maintainer=maintainer)
    new: Counter[str] = Counter()
    already = 0
    if not report.valid:
        return Merged(report, new, already)
    # Opening a store for writing may create files, which a dry run must not do.
    if not dry_run:
        into = Store.open(target, create=False)
    files = scan(source)
    for key, path in sorted(files.records.items()):
        # A record is copied after its files, so that an interrupted merge can be repeated.
        for file in files.attachments.get(key, {}).values():
            new[_KINDS[file.name.partition("-")[0]]] += _copy(
                file, into.run_folder(key) / file.name, MASK_LIMIT, dry_run
            )
        is_new = _copy(path, into.record_path(key), MASK_LIMIT, dry_run)
        new["records"] += is_new
        already += not is_new
    for path in files.sweeps:
        new["sweeps"] += _copy(path, into.root / "sweeps" / path.name, SWEEP_LIMIT, dry_run)
    return Merged(report, new, already)


def _copy(source: Path, target: Path, limit: int, dry_run: bool) -> bool:
    """Copy a file unless it exists or this is a dry run; return whether it is new."""
    if dry_run:
        return not target.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    return create_once(target, read(source, limit)) == "new"

"""Adding sound records to a store: what is there already stays as it is."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from paibench.benchmark.store.atomic import create_once, read
from paibench.benchmark.store.store import Store
from paibench.leaderboard.submission.scan import MASK_LIMIT, SWEEP_LIMIT, scan
from paibench.leaderboard.submission.validate import Report, validate
from paibench.methods.core.registry import UserError


@dataclass(frozen=True)
class Merged:
    """What came of a merge: how many files of each kind are new, and what validation said."""

    report: Report
    new: Counter[str]
    """Of records, masks, curves and sweeps."""
    already: int
    """Records that were there, with the same bytes."""


def merge(source: Path, target: Path, *, dry_run: bool = False) -> Merged:
    """Copy the records of a store with their masks, curves and sweeps into another.

    The source is validated against the target, and nothing is copied unless all of it is sound;
    with `dry_run` nothing is copied in any case. A record comes after what lies beside it, so
    that a merge that was ended can be said again. Raises UserError where one of them is no store,
    or both are the same.
    """
    if source.resolve() == target.resolve():
        raise UserError(f"{target}: is what is to be merged itself; name another store")
    into = Store.read(target)
    if "bench.json" not in {path.name for path in source.glob("*.json")}:
        raise UserError(f"{str(source)!r:.200}: is not a paibench store; name one store to merge")
    report = validate(source, target)
    new: Counter[str] = Counter()
    already = 0
    if not report.sound:
        return Merged(report, new, already)
    if not dry_run:
        into = Store.open(target, create=False)
    tree = scan(source)
    for key, path in sorted(tree.records.items()):
        for file in tree.beside.get(key, {}).values():
            kind = "masks" if file.name.startswith("mask-") else "curves"
            new[kind] += _copy(file, into.run_folder(key) / file.name, MASK_LIMIT, dry_run)
        came = _copy(path, into.record_path(key), MASK_LIMIT, dry_run)
        new["records"] += came
        already += not came
    for path in tree.sweeps:
        new["sweeps"] += _copy(path, into.root / "sweeps" / path.name, SWEEP_LIMIT, dry_run)
    return Merged(report, new, already)


def _copy(file: Path, place: Path, limit: int, dry_run: bool) -> bool:
    """Whether the file was new there."""
    if dry_run:
        return not place.exists()
    place.parent.mkdir(parents=True, exist_ok=True)
    return create_once(place, read(file, limit)) == "new"

"""What a sweep comes to: what is done, what is missing, what runs share, what it may take."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from statistics import mean

from paibench.benchmark.entries import Newer
from paibench.benchmark.failures import is_final
from paibench.benchmark.lanes import lane
from paibench.benchmark.seal import Corrupt
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.benchmark.sweep import Sweep

SAMPLE = 300  # records read for an estimate
RECORD_BYTES = 8_000  # a record with its curve, rounded up


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep by what is to become of them, and estimates where records allow."""

    sweep: Sweep
    done: tuple[Spec, ...]
    missing: tuple[Spec, ...]
    failed: tuple[Spec, ...]
    """Failed for good: not tried again unless asked."""
    shared: int
    """How many of the missing runs go through stages that another one has in common."""
    seconds: float | None
    """Estimated from records of the same data, model and recipe; None where one has none."""
    bytes: int | None


def plan(sweep: Sweep, store: Store | None, *, retry: bool = False, check: bool = False) -> Plan:
    """Compare a sweep with a store (None: nothing is done yet); nothing is changed.

    With `retry`, runs that failed for good are missing as well; with `check`, every record is
    read, and runs whose record cannot be trusted are missing too, instead of done.
    """
    there = store.listing() if store else None
    done, missing, failed = [], [], []
    for spec in sweep.specs:
        key = spec.key
        if store and there and key in there.done and (not check or _sound(store, key)):
            done.append(spec)
        elif there and store and key in there.failed and not retry and is_final(store, key):
            failed.append(spec)
        else:
            missing.append(spec)
    seconds, size = _estimate(store, missing) if store else (None, None)
    shared = _shared(missing)
    return Plan(sweep, tuple(done), tuple(missing), tuple(failed), shared, seconds, size)


def _sound(store: Store, key: str) -> bool:
    try:
        store.read_record(key)
    except Newer:
        return True
    except (FileNotFoundError, Corrupt):
        return False
    return True


def _shared(specs: list[Spec]) -> int:
    lanes = Counter(found for spec in specs if (found := lane(spec)) is not None)
    return sum(count for count in lanes.values() if count > 1)


def _group(spec: Spec) -> tuple[str, str, str]:
    return str(spec.dataset), str(spec.model), str(spec.recipe)


def _estimate(store: Store, missing: list[Spec]) -> tuple[float | None, int | None]:
    """Seconds of work and bytes on disk, by the means over records of the same group and method."""
    if not missing:
        return 0.0, 0
    seconds: dict[tuple[str, ...], list[float]] = {}
    sizes: dict[tuple[str, ...], int] = {}
    for key in islice(sorted(store.listing().done), SAMPLE):
        try:
            record = store.read_record(key)
            spec = Spec.model_validate(record["spec"])
            parts = [record[f"{part}_seconds"] or 0 for part in ("search", "train", "evaluation")]
        except (OSError, Corrupt, ValueError, KeyError):
            continue
        seconds.setdefault((*_group(spec), spec.method.name), []).append(sum(parts))
        sizes[_group(spec)] = (record.get("prunable") or 0) // 8
    total, room = 0.0, 0
    for spec in missing:
        group = _group(spec)
        like = seconds.get((*group, spec.method.name)) or [
            value
            for (*other, _), values in seconds.items()
            if tuple(other) == group
            for value in values
        ]
        if not like:
            return None, None
        total += mean(like)
        room += sizes[group] + RECORD_BYTES
    return total, room

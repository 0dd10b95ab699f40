"""What a sweep comes to: what is done, what is missing, what runs share, what it may take."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from paibench.benchmark.entries import Newer
from paibench.benchmark.estimate import Estimates
from paibench.benchmark.failures import is_final
from paibench.benchmark.lanes import lane
from paibench.benchmark.seal import Corrupt
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.benchmark.sweep import Sweep


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
    store: Store | None

    @cached_property
    def estimates(self) -> Estimates:
        """What the store's records tell of missing runs; read when it is asked for."""
        return Estimates.of(self.store if self.missing else None)

    @property
    def seconds(self) -> float | None:
        """Estimated from records of the same data, model and recipe; None where one has none."""
        return _total(map(self.estimates.seconds, self.missing))

    @property
    def bytes(self) -> int | None:
        """Estimated likewise."""
        size = _total(map(self.estimates.bytes, self.missing))
        return None if size is None else int(size)


def plan(
    sweep: Sweep,
    store: Store | None,
    *,
    retry: bool = False,
    check: bool = False,
    memory_mb: int | None = None,
) -> Plan:
    """Compare a sweep with a store (None: nothing is done yet); nothing is changed.

    With `retry`, runs that failed for good are missing as well; with `check`, every record is
    read, and runs whose record cannot be trusted are missing too, instead of done. `memory_mb`
    is what a run may hold now.
    """
    there = store.listing() if store else None
    done, missing, failed = [], [], []
    for spec in sweep.specs:
        key = spec.key
        if store and there and key in there.done and (not check or _sound(store, key)):
            done.append(spec)
        elif (
            there
            and store
            and key in there.failed
            and not retry
            and is_final(store, key, memory_mb)
        ):
            failed.append(spec)
        else:
            missing.append(spec)
    return Plan(sweep, tuple(done), tuple(missing), tuple(failed), _shared(missing), store)


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


def _total(values: Iterable[float | None]) -> float | None:
    """The sum; None where a part of it is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)

"""The plan of a sweep: which runs are done, which are missing, what they share and may cost."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from statistics import mean

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.records import NewerSchema
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.sweep import Sweep
from paibench.methods.core.registry import find
from paibench.methods.core.signature import describe

SAMPLE = 300  # records read for an estimate
RECORD_BYTES = 8_000  # a record with its curve, rounded up


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep by what happens to them, with estimates if there are records."""

    sweep: Sweep
    done: tuple[Spec, ...]
    missing: tuple[Spec, ...]
    failed: tuple[Spec, ...]
    """Runs that failed and are not tried again unless the user asks for it."""
    shared: int
    """The number of missing runs that share stages with another missing run."""
    store: Store | None

    @cached_property
    def estimates(self) -> "CostEstimate":
        """The costs of earlier runs; read on first use, since most callers do not need them."""
        return CostEstimate.of(self.store if self.missing else None)

    @property
    def seconds(self) -> float | None:
        """The estimated time of all missing runs; None if it is unknown for one of them."""
        return _total(map(self.estimates.seconds, self.missing))

    @property
    def bytes(self) -> int | None:
        """The estimated size of all missing runs; None if it is unknown for one of them."""
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
    """Compare a sweep with a store (None: nothing is done yet) and change nothing.

    With `retry`, failed runs are missing too. With `check`, every record is read, and a run whose
    record cannot be trusted is missing. `memory_mb` is the memory limit of the next attempts.
    """
    # one listing of all runs is much cheaper than a look-up for each
    listing = store.listing() if store else None
    done, missing, failed = [], [], []
    for spec in sweep.specs:
        key = spec.key
        if not (store and listing):
            missing.append(spec)
        elif key in listing.done and (not check or _is_sound(store, key)):
            done.append(spec)
        elif key in listing.failed and not retry and is_final(store, key, memory_mb):
            failed.append(spec)
        else:
            missing.append(spec)
    return Plan(sweep, tuple(done), tuple(missing), tuple(failed), _count_sharing(missing), store)


def _is_sound(store: Store, key: str) -> bool:
    try:
        store.read_record(key)
    except NewerSchema:
        return True
    except (FileNotFoundError, Corrupt):
        return False
    return True


def _total(values: Iterable[float | None]) -> float | None:
    """Return the sum; None if a part of it is unknown."""
    parts = list(values)
    return None if None in parts else sum(value for value in parts if value is not None)


# -- runs that share cached stages; run in parallel, one would wait for the other ------------------

StageGroup = tuple[str, ...]


def stage_group(spec: Spec) -> StageGroup | None:
    """Return what the stages of a run's search depend on; None if the method caches none.

    Runs of one group differ in density and control only.
    """
    if not describe(find(spec.method.name)).keeps_stages:
        return None
    return (str(spec.method), *spec.setting, str(spec.seed))


def _count_sharing(specs: list[Spec]) -> int:
    groups = Counter(group for spec in specs if (group := stage_group(spec)) is not None)
    return sum(count for count in groups.values() if count > 1)


# -- estimates -----------------------------------------------------------------------------------

_Workload = tuple[str, ...]


@dataclass
class CostEstimate:
    """Mean costs of earlier runs with the same data, model and recipe.

    Of these, only runs with the same method count if there are any.
    """

    records: int = 0
    _seconds: dict[_Workload, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    _bytes: dict[_Workload, int] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store | None) -> "CostEstimate":
        """Return estimates from up to `SAMPLE` records of a store."""
        estimate = cls()
        # sorted, so that the same records give the same estimate
        for key in islice(sorted(store.listing().done), SAMPLE) if store else ():
            try:
                record = store.read_record(key) if store else {}
                spec = Spec.model_validate(record["spec"])
                parts = ("search", "train", "evaluation")
                seconds = sum(record[f"{part}_seconds"] or 0 for part in parts)
            except (OSError, Corrupt, ValueError, KeyError):
                continue
            estimate.records += 1
            estimate._seconds[_workload(spec)][spec.method.name].append(seconds)
            # a mask takes one bit for each weight
            estimate._bytes[_workload(spec)] = (record.get("prunable") or 0) // 8 + RECORD_BYTES
        return estimate

    def seconds(self, spec: Spec) -> float | None:
        """Return the estimated seconds of a run; None if no record is similar."""
        methods = self._seconds.get(_workload(spec), {})
        samples = methods.get(spec.method.name) or [s for some in methods.values() for s in some]
        return mean(samples) if samples else None

    def bytes(self, spec: Spec) -> int | None:
        """Return the estimated bytes that a run leaves on disk; None if no record is similar."""
        return self._bytes.get(_workload(spec))


def _workload(spec: Spec) -> _Workload:
    # the initialization is left out, because it costs nothing
    return str(spec.dataset), str(spec.model), str(spec.recipe)

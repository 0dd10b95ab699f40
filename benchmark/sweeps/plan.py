"""What a sweep comes to: what is done, what is missing, what runs share, what it may take."""

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

Group = tuple[str, str, str]


@dataclass
class CostEstimate:
    """Means over records of the same data, model and recipe, of the same method where there are."""

    records: int = 0
    _seconds: dict[Group, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    _bytes: dict[Group, int] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store | None) -> "CostEstimate":
        """Estimates from up to `SAMPLE` records of a store."""
        found = cls()
        for key in islice(sorted(store.listing().done), SAMPLE) if store else ():
            try:
                record = store.read_record(key) if store else {}
                spec = Spec.model_validate(record["spec"])
                parts = ("search", "train", "evaluation")
                seconds = sum(record[f"{part}_seconds"] or 0 for part in parts)
            except (OSError, Corrupt, ValueError, KeyError):
                continue
            found.records += 1
            found._seconds[_group(spec)][spec.method.name].append(seconds)
            found._bytes[_group(spec)] = (record.get("prunable") or 0) // 8 + RECORD_BYTES
        return found

    def seconds(self, spec: Spec) -> float | None:
        """Seconds of work on a run; None where no record is like it."""
        methods = self._seconds.get(_group(spec), {})
        alike = methods.get(spec.method.name) or [s for some in methods.values() for s in some]
        return mean(alike) if alike else None

    def bytes(self, spec: Spec) -> int | None:
        """Bytes on disk that a run leaves; None where no record is like it."""
        return self._bytes.get(_group(spec))


def _group(spec: Spec) -> Group:
    return str(spec.dataset), str(spec.model), str(spec.recipe)


# lanes: Runs whose searches go through the same stages; side by side, one would wait for the other.

StageGroup = tuple[str, ...]


def stage_group(spec: Spec) -> StageGroup | None:
    """What the stages of a run's search depend on; None where the method keeps none.

    Runs of one lane differ in density and control alone.
    """
    if not describe(find(spec.method.name)).keeps_stages:
        return None
    named = (spec.method, spec.dataset, spec.model, spec.recipe)
    return (*map(str, named), spec.init, str(spec.seed))


# plan: What a sweep comes to: what is done, what is missing, what runs share, what it may take.


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
    def estimates(self) -> CostEstimate:
        """What the store's records tell of missing runs; read when it is asked for."""
        return CostEstimate.of(self.store if self.missing else None)

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
    except NewerSchema:
        return True
    except (FileNotFoundError, Corrupt):
        return False
    return True


def _shared(specs: list[Spec]) -> int:
    lanes = Counter(found for spec in specs if (found := stage_group(spec)) is not None)
    return sum(count for count in lanes.values() if count > 1)


def _total(values: Iterable[float | None]) -> float | None:
    """The sum; None where a part of it is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)

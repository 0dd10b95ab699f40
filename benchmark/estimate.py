"""How long a run may take, by the records of runs like it."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from statistics import mean

from paibench.benchmark.seal import Corrupt
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

SAMPLE = 300  # records read for an estimate
RECORD_BYTES = 8_000  # a record with its curve, rounded up

Group = tuple[str, str, str]


@dataclass
class Estimates:
    """Means over records of the same data, model and recipe, of the same method where there are."""

    records: int = 0
    _seconds: dict[Group, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    _bytes: dict[Group, int] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store | None) -> "Estimates":
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

"""Verification of a record: run it again, or retrain from its mask, and compare."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from paibench.benchmark.data.dataset import DataSet, load
from paibench.benchmark.execution.acceptance import tolerance
from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.provenance import third_party
from paibench.benchmark.record import PROTOCOL, Environment, Record
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.steps import metrics
from paibench.benchmark.steps.device import peak_memory_mb, reset_peak_memory, setup_device
from paibench.benchmark.steps.environment import environment, now
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.search import SearchResult, reinit_seed
from paibench.benchmark.steps.train import train
from paibench.benchmark.store.records import StoredRecord, hashed_name
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask import Mask, apply, check_covers, prunable, total
from paibench.methods.core.mask_file import from_bytes
from paibench.methods.core.registry import UserError
from paibench.methods.core.ticket import Ticket
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.loop import Diverged, steps_per_epoch
from paibench.methods.training.services import Cost

Verdict = Literal["identical", "within the seed interval", "different"]

EXPLAINING_FIELDS = (
    *("device", "threads", "torch", "cuda"),
    *("paibench", "commit", "plugin_version", "isolation"),
)
"""The fields of an environment that may explain a difference between two results."""


@dataclass(frozen=True)
class Verification:
    """A recorded result and the result of running it again.

    `interval` is the accepted difference in accuracy: the `tolerance` over the `seeds` records
    that differ only in their seed. `moved_fraction` is the fraction of the weights kept by the
    recorded mask that the new mask does not keep; None if the recorded mask is not available.
    """

    recorded: Record
    repeated: Record
    seeds: int
    interval: float
    moved_fraction: float | None = None

    @property
    def differing(self) -> list[str]:
        """The fields that should be equal in two runs of one spec, but differ."""
        before, after = self.recorded.stable(), self.repeated.stable()
        names = before.keys() - {"schema"}  # a newer program writes a newer schema
        if self.recorded.schema_number < self.repeated.schema_number:
            names &= self.recorded.model_fields_set  # and fields that older records do not have
        return sorted(name for name in names if before[name] != after[name])

    @property
    def difference(self) -> float | None:
        """The new accuracy minus the recorded one; None if one of them is missing."""
        if self.recorded.accuracy is None or self.repeated.accuracy is None:
            return None
        return self.repeated.accuracy - self.recorded.accuracy

    @property
    def verdict(self) -> Verdict:
        """Whether the results are identical, as close as seeds are to each other, or different.

        If the environments are equal in all `EXPLAINING_FIELDS`, every bit must be equal, and
        nothing excuses a difference.
        """
        if not self.differing:
            return "identical"
        near = self.difference is not None and abs(self.difference) <= self.interval
        excused = near and self._same_counts and self.environment_differences
        return "within the seed interval" if excused else "different"

    @property
    def _same_counts(self) -> bool:
        old, new = self.recorded, self.repeated
        return (old.kept, old.prunable) == (new.kept, new.prunable)

    @property
    def environment_differences(self) -> list[str]:
        """How the environments differ, one `field: old, now new` for each field."""
        old, new = self.recorded.environment, self.repeated.environment
        pairs = [(name, getattr(old, name), getattr(new, name)) for name in EXPLAINING_FIELDS]
        return [
            f"{name}: {before}, now {after}" for name, before, after in pairs if before != after
        ]


def verify(recorded: Record, settings: RunSettings, store: Store | None = None) -> Verification:
    """Run a recorded run again, in a temporary store.

    `store` is the store of the record, with its mask and the records of other seeds. Raises Failed
    if the run gives no record now, and UserError if it is impossible.
    """
    spec = Spec.of(**recorded.spec)
    if recorded.status not in ("done", "diverged"):
        raise UserError(f"run {recorded.key} is {recorded.status}; there is nothing to verify")
    # in the store of the record the run is done, so it would not run
    with tempfile.TemporaryDirectory(prefix="paibench-verify-") as folder:
        temporary = Store.open(Path(folder) / "store")
        attempt(spec, temporary, settings)
        repeated = Record.read(temporary.read_record(spec.key))
        moved_fraction = _moved_fraction(recorded, repeated, store, temporary)
    return compare(recorded, repeated, store, moved_fraction)


def compare(
    recorded: Record, repeated: Record, store: Store | None, moved_fraction: float | None
) -> Verification:
    """Compare two records of one run, with the spread over the seeds in a store as tolerance."""
    # the claimed result must not widen its own interval
    others = [each for each in of_seeds(recorded, store) if each.key != recorded.key]
    accuracies = [each.accuracy for each in (*others, repeated) if each.accuracy]
    return Verification(recorded, repeated, len(accuracies), tolerance(accuracies), moved_fraction)


def of_seeds(recorded: Record, store: Store | None) -> Sequence[Record]:
    """Return the finished runs of a store that differ from this one only in their seed, and it."""
    alike = Spec.model_validate(recorded.spec).model_copy(update={"seed": 0})
    records = []
    for entry in store.records() if store else ():
        if isinstance(entry, StoredRecord) and entry.record.get("status") == "done":
            record = Record.read(entry.record)
            other = Spec.model_validate(record.spec)
            if other.model_copy(update={"seed": 0}) == alike:
                records.append(record)
    return records


def _moved_fraction(
    recorded: Record, repeated: Record, store: Store | None, temporary: Store
) -> float | None:
    """Return the fraction of kept weights that the new mask does not keep."""
    if recorded.mask_sha256 == repeated.mask_sha256:
        return 0.0
    if not (store and recorded.mask_file and repeated.mask_file and repeated.kept):
        return None
    try:
        old = from_bytes(store.read_file(recorded.key, recorded.mask_file))
    except (OSError, UserError, ValueError):
        return None
    new = from_bytes(temporary.read_file(repeated.key, repeated.mask_file))
    if {n: m.shape for n, m in old.items()} != {n: m.shape for n, m in new.items()}:
        # masks of other shapes have no weights in common
        return 1.0
    lost = sum(int((layer & ~new[name]).sum()) for name, layer in old.items())
    return lost / max(sum(int(layer.sum()) for layer in old.values()), 1) if total(old) else None


_COPIED = (
    *("key", "spec", "search_forward", "search_backward", "search_epochs", "search_seconds"),
    *("native_accuracy", "native_density", "at_initialization", "mask_file", "curve_file"),
    *("ties", "notes", "mask_distances", "channels", "channels_kept"),
)
"""Fields that only the search can measure; retraining copies them from the record."""


def retrain(recorded: Record, mask: Mask, settings: RunSettings = RunSettings()) -> Record:  # noqa: B008
    """Train the mask of a record again, without running its method.

    Raises UserError if the run started from more than its mask, if the mask does not fit the
    network, or if data, model or recipe come from a third party.
    """
    spec = _spec(recorded)
    started = now()
    device = setup_device(settings.device, settings.threads)
    reset_peak_memory(device)
    data = load(
        spec.dataset.name, spec.dataset.options, settings.data, device=device, seed=spec.seed
    )
    net = make_network(spec, data, spec.seed).to(device)
    facts: dict[str, Any] = {
        **{name: getattr(recorded, name) for name in _COPIED},
        "protocol": PROTOCOL,
        **metrics.data_metrics(data),
        "initial_sha256": digest(net.state_dict()),
    }
    try:
        check_covers(mask, prunable(net))
    except ValueError as error:
        raise UserError(f"mask of {recorded.key}: {error}; it is not of this network") from error
    # in the order of the network, which the record uses for its lists by layer
    mask = {name: mask[name].to(device) for name in prunable(net)}
    result = SearchResult(Ticket(mask), Cost(), 0.0, mask=mask)
    # the costs of the recorded search replace the zeros of this result
    facts = metrics.mask_metrics(spec, net, result, data) | facts
    if spec.control == "reinit":
        net = make_network(spec, data, reinit_seed(spec.seed)).to(device)
    try:
        facts |= metrics.untrained_metrics(spec, net, result, data)
        apply(net, mask)
        recipe = recipe_of(spec.recipe)
        start = _start(recorded, spec, data)
        training = train(net, mask, data.train, data.test, recipe, seed=spec.seed, start=start)
        facts |= {"status": "done", **metrics.training_metrics(training, net, data)}
        if recorded.predictions_file:
            facts["predictions_file"] = hashed_name("predictions.bin", training.predictions)
    except Diverged as error:
        facts |= {"status": "diverged", "reason": str(error)}
    current = _without_method(environment(spec, device, started), recorded.environment)
    return Record(**facts, peak_memory_mb=peak_memory_mb(device), environment=current)


def _spec(recorded: Record) -> Spec:
    """Return the record's spec with a method of the suite in place of its own."""
    # the method may not be installed here, and retraining does not need it
    spec = Spec.of(**recorded.spec | {"method": "random"})
    for _, name in third_party(spec):
        raise UserError(f"{name}: comes from a third party, whose code is not run here; verify it")
    if recorded.at_initialization is not True:
        raise UserError(
            f"run {recorded.key} does not state that its ticket starts from the initial weights, "
            "so its mask is not enough to train it again; verify it"
        )
    return spec


def _start(recorded: Record, spec: Spec, data: DataSet) -> int:
    """Return the step at which training began, from the number of epochs that it took."""
    recipe = recipe_of(spec.recipe)
    steps = steps_per_epoch(len(data.train), recipe.batch)
    trained = recipe.epochs if recorded.epochs_trained is None else recorded.epochs_trained
    start = round((recipe.epochs - trained) * steps)
    if not 0 <= start <= recipe.epochs * steps:
        raise UserError(
            f"run {recorded.key} says that it trained {trained} epochs of {recipe.epochs}"
        )
    return start


def _without_method(current: Environment, recorded: Environment) -> Environment:
    """Return this environment, with the fields about the method taken from the record."""
    about_method = {
        name: value for name, value in dict(recorded).items() if name.startswith("plugin")
    }
    return current.model_copy(update=about_method | {"isolation": recorded.isolation})

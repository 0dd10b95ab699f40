"""Doing a run again from its record's spec, and saying whether the same comes of it."""

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
from paibench.benchmark.store.records import StoredRecord
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask import Mask, apply, check_covers, prunable, total
from paibench.methods.core.mask_file import from_bytes
from paibench.methods.core.registry import UserError
from paibench.methods.core.ticket import Ticket
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.loop import Diverged, steps_per_epoch
from paibench.methods.training.services import Cost

Verdict = Literal["identical", "within the seed interval", "different"]

PLACE = ("device", "threads", "torch", "cuda", "paibench", "commit", "plugin_version", "isolation")
"""What may explain a difference, of the environments of both."""


@dataclass(frozen=True)
class Verification:
    """What came of a run then and now.

    `interval` is how far the accuracy may be off: the `tolerance` over the `seeds` records that
    differ in their seed alone. `moved` is the fraction of kept weights that are others now, where
    the old mask is at hand.
    """

    then: Record
    now: Record
    seeds: int
    interval: float
    moved: float | None = None

    @property
    def differing(self) -> list[str]:
        """The fields that two runs of one spec ought to have in common, and have not."""
        before, after = self.then.stable(), self.now.stable()
        names = before.keys() - {"schema"}  # which grows with the program
        return sorted(name for name in names if before[name] != after[name])

    @property
    def difference(self) -> float | None:
        """The accuracy now minus that of then; None where one of them has none."""
        if self.then.accuracy is None or self.now.accuracy is None:
            return None
        return self.now.accuracy - self.then.accuracy

    @property
    def verdict(self) -> Verdict:
        """Whether it is the same, or as near as seeds are to each other.

        In a place that is the same in all of `PLACE`, every bit is to be the same, and nothing
        excuses a difference.
        """
        if not self.differing:
            return "identical"
        near = self.difference is not None and abs(self.difference) <= self.interval
        excused = near and self._same_counts and self.elsewhere
        return "within the seed interval" if excused else "different"

    @property
    def _same_counts(self) -> bool:
        return (self.then.kept, self.then.prunable) == (self.now.kept, self.now.prunable)

    @property
    def elsewhere(self) -> list[str]:
        """How the places differ, as `name: then, now`."""
        pairs = [
            (name, getattr(self.then.environment, name), getattr(self.now.environment, name))
            for name in PLACE
        ]
        return [f"{name}: {then}, now {now}" for name, then, now in pairs if then != now]


def verify(then: Record, settings: RunSettings, store: Store | None = None) -> Verification:
    """Do a recorded run again, in a store that is thrown away.

    `store` is where the record is from, with its mask and the records of other seeds. Raises
    Failed where the run gives no record now, and UserError for what cannot be run.
    """
    spec = Spec.of(**then.spec)
    if then.status not in ("done", "diverged"):
        raise UserError(f"run {then.key} is {then.status}; there is nothing to verify")
    with tempfile.TemporaryDirectory(prefix="paibench-verify-") as folder:
        again = Store.open(Path(folder) / "store")
        attempt(spec, again, settings)
        now = Record.read(again.read_record(spec.key))
        moved = _moved(then, now, store, again)
    return compare(then, now, store, moved)


def compare(then: Record, now: Record, store: Store | None, moved: float | None) -> Verification:
    """Two records of one run, held to the spread over the seeds that a store has of it."""
    # what was claimed is not to make its own interval
    others = [each for each in of_seeds(then, store) if each.key != then.key]
    known = [each.accuracy for each in (*others, now) if each.accuracy]
    return Verification(then, now, len(known), tolerance(known), moved)


def of_seeds(then: Record, store: Store | None) -> Sequence[Record]:
    """The runs of a store that are done and differ from this one in their seed alone, and it."""
    alike = Spec.model_validate(then.spec).model_copy(update={"seed": 0})
    found = []
    for entry in store.records() if store else ():
        if isinstance(entry, StoredRecord) and entry.record.get("status") == "done":
            record = Record.read(entry.record)
            other = Spec.model_validate(record.spec)
            if other.model_copy(update={"seed": 0}) == alike:
                found.append(record)
    return found


def _moved(then: Record, now: Record, store: Store | None, again: Store) -> float | None:
    """The fraction of kept weights that the new mask has at other places."""
    if then.mask_sha256 == now.mask_sha256:
        return 0.0
    if not (store and then.mask_file and now.mask_file and now.kept):
        return None
    try:
        old = from_bytes(store.read_file(then.key, then.mask_file))
    except (OSError, UserError, ValueError):
        return None
    new = from_bytes(again.read_file(now.key, now.mask_file))
    if {n: m.shape for n, m in old.items()} != {n: m.shape for n, m in new.items()}:
        return 1.0
    lost = sum(int((kept & ~new[name]).sum()) for name, kept in old.items())
    return lost / max(sum(int(kept.sum()) for kept in old.values()), 1) if total(old) else None


# retrain: A recorded run trained again from its mask: init, data and training are ours, so it
# needs no

_TAKEN_OVER = (
    *("key", "spec", "search_forward", "search_backward", "search_epochs", "search_seconds"),
    *("native_accuracy", "native_density", "at_initialization", "mask_file", "curve_file"),
)
"""What a mask alone does not say: these are the record's own words."""


def retrain(then: Record, mask: Mask, settings: RunSettings = RunSettings()) -> Record:  # noqa: B008
    """What the mask of a record comes to here.

    What only a search can say is taken over. Raises UserError where the mask is not all that the
    run started from, does not fit the network, or where data, model or recipe are not the suite's.
    """
    spec = _spec(then)
    started = now()
    device = setup_device(settings.device, settings.threads)
    reset_peak_memory(device)
    data = load(
        spec.dataset.name, spec.dataset.options, settings.data, device=device, seed=spec.seed
    )
    net = make_network(spec, data, spec.seed).to(device)
    known: dict[str, Any] = {
        **{name: getattr(then, name) for name in _TAKEN_OVER},
        "protocol": PROTOCOL,
        **metrics.data_metrics(data),
        "initial_sha256": digest(net.state_dict()),
    }
    try:
        check_covers(mask, prunable(net))
    except ValueError as error:
        raise UserError(f"mask of {then.key}: {error}; it is not of this network") from error
    mask = {name: mask[name].to(device) for name in prunable(net)}
    result = SearchResult(Ticket(mask), Cost(), 0.0, mask=mask)
    known = metrics.mask_metrics(result, net, data) | known
    if spec.control == "reinit":
        net = make_network(spec, data, reinit_seed(spec.seed)).to(device)
    try:
        known |= metrics.untrained_metrics(spec, net, result, data)
        apply(net, mask)
        recipe = recipe_of(spec.recipe)
        start = _start(then, spec, data)
        training = train(net, mask, data.train, data.test, recipe, seed=spec.seed, start=start)
        known |= {"status": "done", **metrics.training_metrics(training, net, data)}
    except Diverged as error:
        known |= {"status": "diverged", "reason": str(error)}
    where = _without_method(environment(spec, device, started), then.environment)
    return Record(**known, peak_memory_mb=peak_memory_mb(device), environment=where)


def _spec(then: Record) -> Spec:
    """The record's spec with a method of ours in the place of its own. Raises UserError."""
    asked = Spec.of(**then.spec | {"method": "random"})
    for _, name in third_party(asked):
        raise UserError(f"{name}: is of a third party, whose code this does not run; verify it")
    if then.at_initialization is not True:
        raise UserError(
            f"run {then.key} does not say that its ticket starts from the initial weights, so its "
            "mask is not all that it started from; verify it"
        )
    return asked


def _start(then: Record, spec: Spec, data: DataSet) -> int:
    """The step of the schedule at which training began, from how many epochs it took."""
    recipe = recipe_of(spec.recipe)
    steps = steps_per_epoch(len(data.train), recipe.batch)
    trained = recipe.epochs if then.epochs_trained is None else then.epochs_trained
    start = round((recipe.epochs - trained) * steps)
    if not 0 <= start <= recipe.epochs * steps:
        raise UserError(f"run {then.key} says that it trained {trained} epochs of {recipe.epochs}")
    return start


def _without_method(here: Environment, there: Environment) -> Environment:
    """This place, with the method's part as the record has it."""
    mine = {name: value for name, value in dict(there).items() if name.startswith("plugin")}
    return here.model_copy(update=mine | {"isolation": there.isolation})

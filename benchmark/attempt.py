"""One attempt at a run: claim it, do it, and make its record the last thing that appears."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from paibench.benchmark import failures
from paibench.benchmark.checkpoints import Checkpoints
from paibench.benchmark.claims import Claim
from paibench.benchmark.commit import StoreError
from paibench.benchmark.failures import Cause
from paibench.benchmark.record import VOLATILE
from paibench.benchmark.run import Means, Place, run
from paibench.benchmark.spec import Spec
from paibench.benchmark.stages import Stages, scope_of
from paibench.benchmark.store import Store
from paibench.benchmark.train import CHECKPOINT_SECONDS, Keeper
from paibench.methods.registry import UserError

Result = Literal["done", "already", "busy"]


class Failed(Exception):
    """An attempt that gave no record: its cause from a closed list, and why in one line."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Cause = cause


@dataclass
class Pulse:
    """Keeps the claims that this process holds alive while its work gets on."""

    run: Claim | None = None
    stage: Claim | None = None
    also: Callable[[], object] = field(default=lambda: None)

    def __call__(self) -> None:
        for claim in (self.run, self.stage):
            if claim:
                claim.beat()
        self.also()

    def hold(self, claim: Claim | None) -> None:
        """The stage that is being computed."""
        self.stage = claim


def attempt(
    spec: Spec,
    store: Store,
    place: Place = Place(),  # noqa: B008
    *,
    name: str | None = None,
    pulse: Callable[[], object] = lambda: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Result:
    """Do a run unless its record is there ("already") or somebody is at work on it ("busy").

    A record that cannot be trusted is set aside first. Raises Failed, after noting the failure
    in the store, when the run gives no record.
    """
    key = spec.key
    if store.is_done(key) and not store.quarantine(key):
        return "already"
    name = name or store.new_attempt(key)
    claim = store.claim(key, name)
    if claim is None:
        return "already" if store.is_done(key) else "busy"
    alive = Pulse(run=claim, also=pulse)
    checkpoints = Checkpoints(store.run_folder(key) / "checkpoints")
    means = Means(
        memo=Stages(store, scope_of(spec, place.device, place.threads), name, alive.hold).memo,
        keeper=Keeper(checkpoints.save, checkpoints.load, checkpoint_seconds),
        pulse=alive,
    )
    try:
        outcome = run(spec, place, means)
        files = {
            f"{file.partition('.')[0]}_file": store.publish_file(key, file, data)
            for file, data in outcome.files.items()
        }
        record = outcome.record.model_copy(update=files)
        store.publish_record(key, record.plain(), name, volatile=VOLATILE)
        checkpoints.clear()
    except Exception as error:
        raise _noted(error, spec, store, name) from error
    finally:
        claim.release()
    return "done"


def _noted(error: Exception, spec: Spec, store: Store, name: str) -> Failed:
    failed = Failed(_cause(error), one_line(error))
    try:
        failures.note(store, spec, name, failed.cause, str(failed))
    except OSError as trouble:
        return Failed("storage", f"{one_line(trouble)} (while noting: {failed})")
    return failed


def _cause(error: Exception) -> Cause:
    if isinstance(error, StoreError):
        return "storage"
    if isinstance(error, UserError):
        return "input"
    out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if out or "can't allocate memory" in str(error) or "DefaultCPUAllocator" in str(error):
        return "memory"
    return "error"


def one_line(error: BaseException) -> str:
    """An exception as one printable line of at most 300 characters."""
    text = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, UserError | StoreError) else f"{type(error).__name__}: "
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in kind + text)[:300]

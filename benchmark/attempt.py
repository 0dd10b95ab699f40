"""One attempt at a run: claim it, do it, and make its record the last thing that appears."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from paibench.benchmark import failures
from paibench.benchmark.checkpoints import Checkpoints
from paibench.benchmark.commit import StoreError
from paibench.benchmark.events import one_line
from paibench.benchmark.failures import Cause
from paibench.benchmark.naming import attempt_name
from paibench.benchmark.pulse import Pulse
from paibench.benchmark.record import VOLATILE
from paibench.benchmark.run import Means, Place, run
from paibench.benchmark.spec import Spec
from paibench.benchmark.stages import Stages, scope_of
from paibench.benchmark.store import Store
from paibench.benchmark.train import CHECKPOINT_SECONDS, Keeper
from paibench.methods.registry import UserError

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}

Result = Literal["done", "already", "busy"]


class Failed(Exception):
    """An attempt that gave no record: its cause from a closed list, and why in one line."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Cause = cause


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
    key, name = spec.key, name or attempt_name()
    alive = Pulse(pulse)
    with _noting(spec, store, name):
        if store.is_done(key) and not store.quarantine(key):
            return "already"
        claim = store.claim(key, name)
        if claim is None:
            return "already" if store.is_done(key) else "busy"
        with alive.holding(claim), _noting(spec, store, name):
            _do(spec, store, place, name, alive, checkpoint_seconds)
    return "done"


def _do(
    spec: Spec, store: Store, place: Place, name: str, alive: Pulse, checkpoint_seconds: float
) -> None:
    key = spec.key
    store.attempt_folder(key, name).mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(store.run_folder(key) / "checkpoints")
    means = Means(
        memo=lambda place, data: Stages(store, scope_of(spec, place, data), name, alive).memo,
        keeper=Keeper(checkpoints.save, checkpoints.load, checkpoint_seconds),
        pulse=alive,
    )
    outcome = run(spec, place, means)
    files = {
        f"{file.partition('.')[0]}_file": store.publish_file(key, file, data)
        for file, data in outcome.files.items()
    }
    record = outcome.record.model_copy(update=files)
    store.publish_record(key, record.plain(), name, volatile=VOLATILE)
    checkpoints.clear()


@contextmanager
def _noting(spec: Spec, store: Store, name: str) -> Iterator[None]:
    """Note what goes wrong in the store, and raise it as Failed."""
    try:
        yield
    except Failed:
        raise
    except (Exception, SystemExit) as error:  # a method that wants to leave has failed
        reason = _in_words(error)
        failed = Failed(_cause(error, reason), reason)
        try:
            failures.note(store, spec, name, failed.cause, reason)
        except OSError as trouble:
            failed = Failed("storage", f"{_in_words(trouble)} (while noting: {reason})")
        raise failed from error


def _cause(error: BaseException, reason: str) -> Cause:
    if isinstance(error, UserError):
        return "input"
    if isinstance(error, StoreError) or getattr(error, "errno", None) in _STORAGE:
        return "storage"
    out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return "memory" if out or "can't allocate memory" in reason else "error"


def _in_words(error: BaseException) -> str:
    """An exception as one line; those that are written for the user go without their type."""
    try:
        text = str(error).strip() or "no message"
    except Exception:
        text = "its message cannot be read"
    kind = "" if isinstance(error, UserError | StoreError) else f"{type(error).__name__}: "
    return one_line(kind + text)

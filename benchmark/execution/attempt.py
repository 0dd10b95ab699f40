"""One attempt at a run: claim it, do it, and make its record the last thing that appears."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from paibench.benchmark.execution.heartbeat import Heartbeat
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.execution.stage_cache import StageCache, cache_key
from paibench.benchmark.provenance import display_name
from paibench.benchmark.record import VOLATILE
from paibench.benchmark.run import Means, run
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.checkpoint import (
    Checkpointer,
    Checkpoints,
    CheckpointSlot,
)
from paibench.benchmark.steps.search import MethodError, SearchTimeout
from paibench.benchmark.store import failures
from paibench.benchmark.store.atomic import StoreError
from paibench.benchmark.store.failures import Cause
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.methods.core.services import Interrupted
from paibench.methods.core.task import Memo
from paibench.methods.core.text import in_words, one_line

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
    settings: RunSettings = RunSettings(),  # noqa: B008
    *,
    name: str | None = None,
    on_progress: Callable[[], object] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Do a run unless its record is there ("already") or somebody is at work on it ("busy").

    A record that cannot be trusted is set aside first. Raises Failed, after noting the failure
    in the store, when the run gives no record; and Left as soon as may be once `leaving()`, with
    the claim released and the training saved.
    """
    key, name = spec.key, name or new_attempt_id()
    alive = Heartbeat(on_progress, should_stop)
    noting = partial(_noting, spec, store, name, alive, settings.memory_mb)
    with noting():
        if store.is_done(key) and not store.quarantine(key):
            return "already"
        claim = store.acquire_lease(key, name)
        if claim is None:
            return "already" if store.is_done(key) else "busy"
        with alive.renewing(claim), noting():
            _do(spec, store, settings, name, alive)
    return "done"


def _do(
    spec: Spec,
    store: Store,
    settings: RunSettings,
    name: str,
    alive: Heartbeat,
) -> None:
    key = spec.key
    folder = store.attempt_folder(key, name)
    folder.mkdir(parents=True, exist_ok=True)
    headway = Progress(folder)
    kept = store.run_folder(key) / "checkpoints"
    searches, trainings = CheckpointSlot(kept / "search"), Checkpoints(kept / "train")

    def memo(place: str, data: str) -> Memo:
        told = (headway.stage, headway.wait)
        return StageCache(
            store, cache_key(spec, place, data), name, alive, *told, searches.inside
        ).memo

    means = Means(
        memo=memo,
        keeper=Checkpointer(
            trainings.save, trainings.load, settings.checkpoint_seconds, alive.should_stop
        ),
        search_keeper=Checkpointer(
            searches.save, searches.load, settings.checkpoint_seconds, alive.should_stop
        ),
        pulse=alive,
        searching=alive.check_interrupt,
        leaving=alive.should_stop,
        search_kept=headway.search,
        tell=headway.train,
        hidden=(store.root,),
    )
    try:
        outcome = run(spec, settings, means)
    except Interrupted:
        headway.save()
        raise
    files = {
        f"{file.partition('.')[0]}_file": store.publish_file(key, file, data)
        for file, data in outcome.files.items()
    }
    record = outcome.record.model_copy(update=files)
    store.publish_record(key, record.plain(), name, volatile=VOLATILE)
    shutil.rmtree(kept, ignore_errors=True)


@contextmanager
def _noting(
    spec: Spec, store: Store, name: str, alive: Heartbeat, memory_mb: int | None
) -> Iterator[None]:
    """Note what goes wrong in the store, and raise it as Failed."""
    try:
        yield
    except Failed:
        raise
    except (Exception, SystemExit) as error:  # a method that wants to leave has failed
        if alive.should_stop():  # the signal that says so ends the helpers of a data loader as well
            raise Interrupted from error
        reason = _in_words(error)
        cause = _cause(error, reason)
        if cause == "plugin":
            reason = one_line(f"{display_name(spec.method.name)}: {reason}")
        failed = Failed(cause, reason)
        try:
            failures.record_failure(store, spec, name, failed.cause, reason, memory_mb=memory_mb)
        except OSError as trouble:
            failed = Failed("storage", f"{_in_words(trouble)} (while noting: {reason})")
        raise failed from error


def _cause(error: BaseException, reason: str) -> Cause:
    if isinstance(error, MethodError):
        return "plugin"
    if isinstance(error, SearchTimeout):
        return "time"
    if "CUDA error" in reason:  # of the device, whoever meets it
        return "crashed"
    if isinstance(error, UserError):
        return "input"
    if isinstance(error, StoreError) or getattr(error, "errno", None) in _STORAGE:
        return "storage"
    out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return "memory" if out or "can't allocate memory" in reason else "error"


def _in_words(error: BaseException) -> str:
    """An exception as one line; those that are written for the user go without their type."""
    said = isinstance(error, UserError | StoreError | MethodError | SearchTimeout)
    return one_line(str(error)) if said else in_words(error)

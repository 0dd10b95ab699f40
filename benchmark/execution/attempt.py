"""One attempt at a run: lease it, execute it, and publish its record last."""

import errno
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from paibench.benchmark.execution.services import Heartbeat, Workspace
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.provenance import display_name
from paibench.benchmark.record import VOLATILE
from paibench.benchmark.run import run
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.blame import MethodError, PluginError, attributing_errors
from paibench.benchmark.steps.search import SearchTimeout
from paibench.benchmark.store import failures
from paibench.benchmark.store.atomic import StoreError
from paibench.benchmark.store.failures import Cause
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import in_words, one_line
from paibench.methods.training.services import Interrupted

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}

Result = Literal["done", "already", "busy"]


class Failed(Exception):
    """An attempt without a record: its cause from a closed list, and a reason of one line."""

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
    """Execute a run unless it is done ("already") or another process holds its lease ("busy").

    A record that is damaged goes to quarantine first. Raises Failed, after recording the failure
    in the store, if the run gives no record. Once `should_stop()` is true, raises Interrupted as
    soon as the training is saved, with the lease released.
    """
    key, name = spec.key, name or new_attempt_id()
    heartbeat = Heartbeat(on_progress, should_stop)
    recording = partial(_recording_failures, spec, store, name, should_stop, settings.memory_mb)
    with recording():
        if store.is_done(key) and not store.quarantine(key):
            return "already"
        lease = store.acquire_lease(key, name)
        if lease is None:
            return "already" if store.is_done(key) else "busy"
        # failures are recorded before the lease is released, so that no other attempt begins first
        with heartbeat.renewing(lease), recording(), _traceable_interrupts():
            _execute(spec, settings, Workspace(store, spec, name, heartbeat, settings))
    return "done"


def _execute(spec: Spec, settings: RunSettings, workspace: Workspace) -> None:
    store, key = workspace.store, spec.key
    try:
        with attributing_errors(spec):
            outcome = run(spec, settings, workspace)
    except Interrupted:
        workspace.progress.save()
        raise
    files = {
        f"{file.partition('.')[0]}_file": store.publish_file(key, file, data)
        for file, data in outcome.files.items()
    }
    record = outcome.record.model_copy(update=files)
    store.publish_record(key, record.plain(), workspace.attempt, volatile=VOLATILE)
    # only now: a process that is killed before the record exists resumes from the checkpoints
    shutil.rmtree(workspace.checkpoints, ignore_errors=True)


@contextmanager
def _recording_failures(
    spec: Spec, store: Store, name: str, should_stop: Callable[[], bool], memory_mb: int | None
) -> Iterator[None]:
    """Record every error in the store as a failure, and raise it as Failed."""
    try:
        yield
    except Failed:
        raise
    except (Exception, SystemExit) as error:  # a method that exits has failed
        if should_stop():  # the same signal may have killed helper processes of a data loader
            raise Interrupted from error
        reason = _in_words(error)
        cause = _cause(error, reason)
        if isinstance(error, MethodError):
            reason = one_line(f"{display_name(spec.method.name)}: {reason}")
        failed = Failed(cause, reason)
        try:
            failures.record_failure(store, spec, name, cause, reason, memory_mb=memory_mb)
        except OSError as second:
            failed = Failed("storage", f"{_in_words(second)} (while noting: {reason})")
        raise failed from error


@contextmanager
def _traceable_interrupts() -> Iterator[None]:
    """Let Ctrl-C leave a frame of ours in its traceback, so that no method is blamed for it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # not the main thread, which receives the signal
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _cause(error: BaseException, reason: str) -> Cause:
    if isinstance(error, MethodError | PluginError):
        return "plugin"
    if isinstance(error, SearchTimeout):
        return "time"
    if "CUDA error" in reason:  # the device failed, whatever the code was doing
        return "crashed"
    if isinstance(error, UserError):
        return "input"
    if isinstance(error, StoreError) or getattr(error, "errno", None) in _STORAGE:
        return "storage"
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return "memory" if out_of_memory or "can't allocate memory" in reason else "error"


def _in_words(error: BaseException) -> str:
    """Return an exception as one line; errors that are written for users go without their type."""
    for_users = isinstance(
        error, UserError | StoreError | MethodError | PluginError | SearchTimeout
    )
    return one_line(str(error)) if for_users else in_words(error)

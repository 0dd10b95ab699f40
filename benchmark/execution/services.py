"""The services of a run that has a store: live leases, shared stages, checkpoints."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from paibench.benchmark.execution.checkpoint import Checkpoints, CheckpointSlot
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import PROTOCOL
from paibench.benchmark.spec import SETTING, Spec
from paibench.benchmark.steps.blame import attributing_errors
from paibench.benchmark.steps.environment import code_of
from paibench.benchmark.store.lease import Lease, acquire
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.services import Compute, Interrupted, Services, State

LONGEST_PAUSE = 5.0  # seconds between two looks at a stage that another run computes
STAGE_FORM = 2
"""The form of a stored stage: what it has besides the tensors of the method."""
_DIGEST = "stage.sha256"
"""The entry beside the tensors that holds their digest."""


@dataclass
class Heartbeat:
    """Renews every lease that is held, and calls `on_beat`, whenever the work progresses."""

    on_beat: Callable[[], object] = lambda: None
    should_stop: Callable[[], bool] = lambda: False
    _leases: list[Lease] = field(default_factory=list)

    def __call__(self) -> None:
        """Renew the leases. Raises Interrupted if the process must stop."""
        for lease in self._leases:
            lease.renew()
        self.on_beat()
        if self.should_stop():
            raise Interrupted

    @contextmanager
    def renewing(self, lease: Lease) -> Iterator[None]:
        """Keep a lease alive in this block, and release it at the end, also after an error."""
        self._leases.append(lease)
        try:
            yield
        finally:
            self._leases.remove(lease)
            lease.release()


def cache_key(spec: Spec, machine: str, data_fingerprint: str) -> str:
    """Return 40 hex digits that name all that a stage depends on besides the method's options.

    They cover the method and the version of its code, the data by content rather than name, and
    the machine (see `environment.machine_kind`), which changes the last bits of a training.
    Raises MethodError if the method cannot be imported.
    """
    plain = spec.canonical
    parts = {key: plain.get(key) for key in (*SETTING, "seed")}
    with attributing_errors(spec, "methods"):
        code = code_of(spec.method.name)
    method = {"method": spec.method.name, "code": code, "protocol": PROTOCOL, "form": STAGE_FORM}
    text = json.dumps(parts | method | {"place": machine, "data": data_fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class StageCache:
    """The shared stages of one cache key, as the attempt of one run uses them."""

    store: Store
    key: str
    attempt: str
    heartbeat: Heartbeat
    on_stage: Callable[[], object] = lambda: None
    """Called after each stage, computed or found."""
    on_wait: Callable[[], object] = lambda: None
    """Called while another run computes a stage that this one needs."""
    inside: Callable[[Path], AbstractContextManager[object]] = nullcontext
    """Entered while a stage is computed, with the folder of its lease, for its checkpoints."""

    def find(self, name: str, compute: Compute) -> State:
        """Return the stage, on the CPU; one run computes it and the others find it.

        While another live run computes it, this one waits. A stage whose bytes are damaged is
        moved to quarantine and computed again.
        """
        state = self._find(name, compute)
        self.on_stage()
        return state

    def _find(self, name: str, compute: Compute) -> State:
        folder = self.store.stage_path(self.key, name).with_suffix("")
        pause = 0.05
        while (state := self._read(name)) is None:
            folder.mkdir(parents=True, exist_ok=True)
            lease = acquire(folder, self.attempt)
            if lease is None:
                self.on_wait()
                # the lease of the waiting run must not expire, and a signal must still stop it
                self.heartbeat()
                time.sleep(pause)
                # short pauses find a short stage soon; long ones spare the shared file system
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            with self.heartbeat.renewing(lease), self.inside(folder):
                state = self._read(name)  # the last owner may have stored it just before
                return state if state is not None else self._compute(name, compute)
        return state

    def _compute(self, name: str, compute: Compute) -> State:
        self.store.discard_stage(self.key, name)  # only a stage that could not be read
        state = {key: tensor.detach().cpu().contiguous() for key, tensor in compute().items()}
        # safetensors has no checksum, so the digest is stored as one more tensor
        stored = torch.frombuffer(bytearray.fromhex(digest(state)), dtype=torch.uint8)
        self.store.publish_stage(self.key, name, save({**state, _DIGEST: stored}))
        return state

    def _read(self, name: str) -> State | None:
        """Return the stage, or None if it does not exist or is damaged."""
        try:
            data = self.store.read_stage(self.key, name)
            state = load(data) if data is not None else {}
        except (SafetensorError, ValueError):
            return None
        stored = state.pop(_DIGEST, None)
        intact = stored is not None and bytes(stored.tolist()).hex() == digest(state)
        return state if intact else None


class LocalServices(Services):
    """Services that work with the store in this process.

    `on_save` receives the step of each checkpoint.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        files: Checkpoints | CheckpointSlot,
        origin: str,
        checkpoint_seconds: float,
        find_stage: Callable[[str, Compute], State] = lambda name, compute: compute(),
        on_save: Callable[[int], object] = lambda step: None,
    ) -> None:
        super().__init__(find_stage)
        self.origin = origin
        self.checkpoint_seconds = checkpoint_seconds
        self.beat = heartbeat
        self._files = files
        self._on_save = on_save

    def heartbeat(self) -> None:
        self.beat()

    def load(self) -> bytes | None:
        return self._files.load()

    def save(self, data: bytes, step: int) -> None:
        self._files.save(data)
        self._on_save(step)


class Workspace:
    """What one attempt uses of its store while the run executes."""

    def __init__(
        self, store: Store, spec: Spec, attempt: str, heartbeat: Heartbeat, settings: RunSettings
    ) -> None:
        self.store = store
        self.attempt = attempt
        self.checkpoints = store.run_folder(spec.key) / "checkpoints"
        folder = store.attempt_folder(spec.key, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        self.progress = Progress(folder)
        self._spec = spec
        self._heartbeat = heartbeat
        self._seconds = settings.checkpoint_seconds

    def search_services(self, origin: str, machine: str, fingerprint: str) -> Services:
        """Return the services of the search, for this kind of machine and these data."""
        slot = CheckpointSlot(self.checkpoints / "search")
        key = cache_key(self._spec, machine, fingerprint)
        progress = self.progress
        cache = StageCache(
            self.store,
            key,
            self.attempt,
            self._heartbeat,
            on_stage=progress.stage,
            on_wait=progress.wait,
            inside=slot.inside,
        )
        return LocalServices(
            self._heartbeat, slot, origin, self._seconds, cache.find, on_save=progress.search
        )

    def training_services(self, origin: str) -> Services:
        """Return the services of the training."""
        # unlike a stage, a training belongs to this run alone
        origin = f"{self._spec.key} {origin}"
        files = Checkpoints(self.checkpoints / "train")
        progress = self.progress
        return LocalServices(
            self._heartbeat,
            files,
            origin,
            self._seconds,
            on_save=lambda step: progress.train(step, progress.steps),
        )

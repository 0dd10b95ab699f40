"""Stages of searches that runs share, kept in the store: what `Task.memo` reads and writes."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from paibench.benchmark.execution.heartbeat import Heartbeat
from paibench.benchmark.record import PROTOCOL
from paibench.benchmark.spec import SETTING, Spec
from paibench.benchmark.steps.environment import code_of, digest
from paibench.benchmark.steps.search import attributing_errors
from paibench.benchmark.store import lease
from paibench.benchmark.store.store import Store

State = dict[str, Tensor]
LONGEST_PAUSE = 5.0  # seconds between looks at a stage that somebody else computes
_SEAL = "stage.sha256"  # beside the tensors: their digest


def cache_key(spec: Spec, place: str, data_fingerprint: str) -> str:
    """The name of all that a stage depends on besides the options of the method: 40 hex digits.

    The name of the method and the version of its code belong to it, so that a stage is never
    found by other code than its own; the data as they are, not as they are called; and the
    place (see `provenance.kind_of_place`), since it changes the last bits of a training.
    Raises MethodError where the method cannot be imported.
    """
    plain = spec.canonical
    parts = {key: plain.get(key) for key in (*SETTING, "seed")}
    with attributing_errors(spec.method.name):
        code = code_of(spec.method.name)
    method = {"method": spec.method.name, "code": code, "protocol": PROTOCOL}
    text = json.dumps(parts | method | {"place": place, "data": data_fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class StageCache:
    """The shared stages of one scope, for the attempt of one run."""

    store: Store
    scope: str
    attempt: str
    pulse: Heartbeat
    tell: Callable[[], object] = lambda: None
    """Called whenever a stage is there, computed or found."""
    waits: Callable[[], object] = lambda: None
    """Called whenever a stage is waited for that another run computes."""
    inside: Callable[[Path], AbstractContextManager[object]] = nullcontext
    """Entered while a stage is computed, with the folder of its claim, for what it keeps."""

    def memo(self, name: str, compute: Callable[[], State]) -> State:
        """What the stage holds, on the CPU, computed by one run and found by the others.

        While another live run computes it, this one waits. A stage whose bytes are broken is
        moved to quarantine and computed again.
        """
        state = self._found(name, compute)
        self.tell()
        return state

    def _found(self, name: str, compute: Callable[[], State]) -> State:
        folder = self.store.stage_path(self.scope, name).with_suffix("")
        pause = 0.05
        while (state := self._read(name)) is None:
            folder.mkdir(parents=True, exist_ok=True)
            claim = lease.acquire(folder, self.attempt)
            if claim is None:
                self.waits()
                self.pulse.check_interrupt()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            with self.pulse.renewing(claim), self.inside(folder):
                state = self._read(name)  # its last owner may have been quicker
                return state if state is not None else self._compute(name, compute)
        return state

    def _compute(self, name: str, compute: Callable[[], State]) -> State:
        self.store.discard_stage(self.scope, name)  # only ever what could not be read
        state = {key: tensor.detach().cpu().contiguous() for key, tensor in compute().items()}
        mark = torch.frombuffer(bytearray.fromhex(digest(state)), dtype=torch.uint8)
        self.store.publish_stage(self.scope, name, save({**state, _SEAL: mark}))
        return state

    def _read(self, name: str) -> State | None:
        """The stage, or None where there is none that can be trusted."""
        try:
            data = self.store.read_stage(self.scope, name)
            state = load(data) if data is not None else {}
        except (SafetensorError, ValueError):
            return None
        mark = state.pop(_SEAL, None)
        sound = mark is not None and bytes(mark.tolist()).hex() == digest(state)
        return state if sound else None

"""Stages of searches that runs share, kept in the store: what `Task.memo` reads and writes."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from paibench.benchmark import claims
from paibench.benchmark.record import PROTOCOL
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

State = dict[str, Tensor]
POLL = 0.2  # seconds between looks at a stage that somebody else computes


def scope_of(spec: Spec, device: str, threads: int) -> str:
    """The name of all that a stage depends on besides the method: 40 hexadecimal digits.

    Device kind and threads belong to it, since they change the last bits of a training.
    """
    plain = spec.canonical
    parts = {key: plain.get(key) for key in ("dataset", "model", "init", "recipe", "seed")}
    where = {"device": device.split(":")[0], "threads": threads, "protocol": PROTOCOL}
    return hashlib.sha256(json.dumps(parts | where, sort_keys=True).encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Stages:
    """The shared stages of one scope, for the attempt of one run."""

    store: Store
    scope: str
    attempt: str
    holding: Callable[[claims.Claim | None], None]
    """Told which claim to keep alive while a stage is computed, and None after it."""

    def memo(self, name: str, compute: Callable[[], State]) -> State:
        """What the stage holds, computed by one run and found by the others.

        While another live run computes it, this one waits.
        """
        folder = self.store.stage(self.scope, name).with_suffix("")
        while (state := self._read(name)) is None:
            folder.mkdir(parents=True, exist_ok=True)
            claim = claims.claim(folder, self.attempt)
            if claim is None:
                time.sleep(POLL)
                continue
            try:
                if (state := self._read(name)) is None:  # its last owner was quicker
                    self.holding(claim)
                    state = compute()
                    self.store.publish_stage(self.scope, name, save(_plain(state)))
            finally:
                self.holding(None)
                claim.release()
                with suppress(OSError):
                    folder.rmdir()
        return state

    def _read(self, name: str) -> State | None:
        data = self.store.read_stage(self.scope, name)
        if data is None:
            return None
        try:
            return load(data)
        except (SafetensorError, ValueError):
            self.store.discard_stage(self.scope, name)
            return None


def _plain(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

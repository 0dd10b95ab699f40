"""The sandboxed process of a third-party search: `python -m paibench.benchmark.sandbox.child`.

It receives a request, isolates itself before it imports any third-party code, and sends back a
ticket. It knows neither the store nor the data that are evaluated.
"""

import os
import select
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paibench.benchmark.execution.process_tree import die_with_parent
from paibench.benchmark.sandbox.ipc import Channel, Message, inherited
from paibench.benchmark.sandbox.isolation import ResourceLimits, isolate
from paibench.methods.training.services import Compute, Interrupted, Services, State

_LARGE = 1 << 40
_IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a whole job receives: the harness handles them, and tells this process to stop."""
_COUNT_SECONDS = 0.05  # between two messages with counts, which are also signs of life


@dataclass(frozen=True)
class SearchRequest:
    """What to search, as plain values; an empty spec asks for the isolation alone."""

    folder: str
    limits: dict[str, Any]
    spec: dict[str, Any] | None = None
    device: str = "cpu"
    threads: int = 1
    split: dict[str, Any] | None = None
    split_descriptor: int = -1
    """The open file with the training data."""
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    origin: str = ""
    checkpoint_seconds: float | None = None
    method_file: str | None = None
    """The file of a method that is not installed."""

    @property
    def plain(self) -> dict[str, Any]:
        """The request as JSON values."""
        return asdict(self)


def main() -> None:
    """Execute the request from the channel whose descriptor is the first argument."""
    descriptor, parent = map(int, sys.argv[1:3])
    die_with_parent(parent)
    for number in _IGNORED_SIGNALS:
        signal.signal(number, lambda *_: None)
    # the harness is trusted, so its messages need no tight limit
    channel = inherited(descriptor, _LARGE)
    first = channel.receive()
    assert first is not None
    request = SearchRequest(**first.fields)
    isolation = isolate(
        Path(request.folder),
        [Path(path) for path in request.readable],
        [Path(path) for path in request.hidden],
        ResourceLimits(**request.limits),
        request.device,
    )
    channel.send("isolated", isolation=isolation)
    if request.spec:
        _search(request, RemoteServices(channel, request))


def _search(request: SearchRequest, services: "RemoteServices") -> None:
    """Search, and send how it ended."""
    import torch  # takes seconds, and must not run before the isolation

    from paibench.benchmark.sandbox import ticket_io
    from paibench.benchmark.spec import Spec
    from paibench.benchmark.steps.blame import MethodError, PluginError, attributing_errors
    from paibench.benchmark.steps.device import peak_memory_mb
    from paibench.benchmark.steps.search import find
    from paibench.methods.core.registry import UserError, use_file
    from paibench.methods.core.text import in_words
    from paibench.methods.training.loop import Diverged

    spec = Spec.model_validate(request.spec)
    try:
        file = request.method_file
        if file and use_file(file) != spec.method.name:
            raise UserError(f"{file} has changed since the run was asked for; re-run the command")
        net, task = _inputs(request, spec, services)
        services.send("begin")
        result = find(spec, net, task)
        with attributing_errors(spec, "methods"):
            data = ticket_io.pack(result.ticket)
        services.send("result", data, peak_mb=peak_memory_mb(task.device))
    except Interrupted:
        services.send("interrupted")
    except Diverged as error:
        services.send("diverged", step=error.step)
    except UserError as error:
        services.send("failed", cause="input", reason=str(error))
    except MethodError as error:
        services.send("failed", cause="plugin", reason=str(error))
    except PluginError as error:
        services.send("failed", cause="other plugin", reason=str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        services.send("failed", cause="memory", reason=str(error).strip() or "no message")
    except BaseException as error:
        # the harness cannot see an exception of this process, only its messages
        words = in_words(error)
        cause = "crashed" if "CUDA error" in words else "plugin"
        services.send(
            "failed", cause="memory" if "allocate memory" in words else cause, reason=words
        )


def _inputs(request: SearchRequest, spec: Any, services: "RemoteServices") -> tuple[Any, Any]:
    """Return the network at initialization and the task."""
    from paibench.benchmark.sandbox.shared_data import attach
    from paibench.benchmark.spec import recipe_of
    from paibench.benchmark.steps.device import setup_device
    from paibench.benchmark.steps.network import make_network
    from paibench.methods.core.task import Task

    device = setup_device(request.device, request.threads)
    split = attach(request.split_descriptor, request.split or {}, device)
    task = Task(
        split,
        seed=spec.seed,
        recipe=recipe_of(spec.recipe),
        device=device,
        stream=spec.method.name,
        services=services,
    )
    return make_network(spec, split, spec.seed).to(device), task


class RemoteServices(Services):
    """A proxy of the services that the harness provides on the other side of the channel."""

    def __init__(self, channel: Channel, request: SearchRequest) -> None:
        super().__init__()
        self.origin = request.origin
        self.checkpoint_seconds = request.checkpoint_seconds
        self._channel = channel
        self._owner = os.getpid()
        self._must_stop = False
        self._forward = self._backward = 0
        self._sent = 0.0

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        """Send a message, after the counts so far.

        A process that a method has forked exits here: only one process may answer.
        """
        if os.getpid() != self._owner:
            os._exit(0)
        if self._forward or self._backward:
            forward, backward = self._forward, self._backward
            self._forward = self._backward = 0
            self._channel.send("count", forward=forward, backward=backward)
        self._sent = time.monotonic()
        self._channel.send(kind, payload, **fields)

    def _ask(self, kind: str, **fields: Any) -> Message:
        self.send(kind, **fields)
        while True:
            answer = self._channel.receive()
            assert answer is not None
            # the harness may ask to stop before it answers; the next heartbeat obeys
            if answer.kind != "stop":
                return answer
            self._must_stop = True

    def count(self, forward: int, backward: int) -> None:
        super().count(forward, backward)
        self._forward += forward
        self._backward += backward
        if time.monotonic() - self._sent > _COUNT_SECONDS:
            self.send("alive")

    def heartbeat(self) -> None:
        while not self._must_stop and select.select([self._channel.socket], [], [], 0)[0]:
            message = self._channel.receive()
            self._must_stop = message is not None and message.kind == "stop"
        if self._must_stop:
            raise Interrupted

    def memo(self, name: str, compute: Compute) -> State:
        from safetensors.torch import load, save

        answer = self._ask("memo", name=name)
        if answer.kind == "stage":
            # the harness has already counted a stage that it found
            super().count(answer.fields["forward"], answer.fields["backward"])
            return dict(load(answer.payload))
        import torch

        # clones, because tensors that share memory cannot be saved together
        contiguous = torch.contiguous_format
        state = {
            key: each.detach().cpu().clone(memory_format=contiguous)
            for key, each in compute().items()
        }
        data = save(state)
        self.send("stage", data)
        return dict(load(data))

    def save(self, data: bytes, step: int) -> None:
        self.send("save", data, step=step)

    def load(self) -> bytes | None:
        return self._ask("load").payload or None


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # do not wait for threads that the method left behind

"""The process in which a stranger's method searches: `python -m paibench.benchmark.sandbox.child`.

It is told what to search by a message, walls itself in before any of the stranger's code is
imported, and hands back a ticket. It knows neither the store nor what is evaluated.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paibench.benchmark.execution.process_tree import die_with_parent
from paibench.benchmark.sandbox.ipc import Channel, Message, opened
from paibench.benchmark.sandbox.isolation import ResourceLimits, isolate

_LARGE = 1 << 40
_OF_OTHERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a whole job gets: whoever started us heeds them, and tells us what to do."""
_EVERY = 0.05  # seconds between two signs of life


@dataclass(frozen=True)
class SearchRequest:
    """What is to be searched, as plain values."""

    spec: dict[str, Any]
    device: str
    threads: int
    split: dict[str, Any]
    loan: int
    """The number of the open file with the training data."""
    folder: str
    readable: list[str]
    hidden: list[str]
    limits: dict[str, Any]
    origin: str
    checkpoint_seconds: float
    keeps: bool
    """Whether stages and checkpoints are kept on the other side."""
    file: str | None = None
    """The file of a method that is not installed."""

    @classmethod
    def none(cls, folder: str, limits: dict[str, Any]) -> "SearchRequest":
        """Nothing to search: the walls are put up, and that is all."""
        return cls({}, "cpu", 1, {}, -1, folder, [], [], limits, "", 0.0, False)

    @property
    def plain(self) -> dict[str, Any]:
        """The order as JSON values."""
        return asdict(self)


def main() -> None:
    """Search what is ordered through the channel whose number is the first argument."""
    descriptor, parent = map(int, sys.argv[1:3])
    die_with_parent(parent)
    for number in _OF_OTHERS:
        signal.signal(number, lambda *_: None)
    channel = opened(descriptor, _LARGE)
    first = channel.receive()
    assert first is not None
    order = SearchRequest(**first.says)
    walls = isolate(
        Path(order.folder),
        [Path(path) for path in order.readable],
        [Path(path) for path in order.hidden],
        ResourceLimits(**order.limits),
        order.device,
    )
    channel.send("walls", walls=walls)
    if order.spec:
        _search(order, RemoteServices(channel))


def _search(order: SearchRequest, outside: "RemoteServices") -> None:
    """Search, and say how it ended."""
    import torch  # takes seconds, and is to be behind the walls

    from paibench.benchmark.sandbox import ticket_io
    from paibench.benchmark.spec import Spec
    from paibench.benchmark.steps.search import MethodError, attributing_errors, find
    from paibench.methods.core.registry import UserError, use_file
    from paibench.methods.core.services import Interrupted
    from paibench.methods.core.text import in_words
    from paibench.methods.training.loop import Diverged

    spec = Spec.model_validate(order.spec)
    try:
        if order.file and use_file(order.file) != spec.method.name:
            raise UserError(f"{order.file} has changed since the run was asked for; say it again")
        net, task = _given(order, spec, outside)
        outside.say("begin")
        found = find(spec, net, task)
        with attributing_errors(spec.method.name):
            data = ticket_io.pack(found.ticket)
        outside.say("found", data, peak_mb=_peak(task.device))
    except Interrupted:
        outside.say("left")
    except Diverged as error:
        outside.say("diverged", step=error.step)
    except UserError as error:
        outside.say("failed", cause="input", reason=str(error))
    except MethodError as error:
        outside.say("failed", cause="plugin", reason=str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        outside.say("failed", cause="memory", reason=str(error).strip() or "no message")
    except BaseException as error:
        words = in_words(error)
        cause = "crashed" if "CUDA error" in words else "plugin"
        outside.say("failed", cause="memory" if "allocate memory" in words else cause, reason=words)


def _given(order: SearchRequest, spec: Any, outside: "RemoteServices") -> tuple[Any, Any]:
    """The network at initialization and the task, made of what was ordered."""
    from paibench.benchmark.sandbox.shared_data import attach
    from paibench.benchmark.spec import recipe_of
    from paibench.benchmark.steps.checkpoint import Checkpointer, keep_with
    from paibench.benchmark.steps.device import setup_device
    from paibench.benchmark.steps.network import make_network
    from paibench.methods.core.task import Task

    device = setup_device(order.device, order.threads)
    split = attach(order.loan, order.split, device)
    keeper = Checkpointer(outside.save, outside.load, order.checkpoint_seconds, outside.leaving)
    task = Task(
        split,
        seed=spec.seed,
        recipe=recipe_of(spec.recipe),
        device=device,
        stream=spec.method.name,
        memo=outside.memo if order.keeps else None,
        or_leave=outside.or_leave,
        keep=keep_with(keeper, order.origin, outside.kept) if order.keeps else None,
        spent=outside.spent,
    )
    return make_network(spec, split, spec.seed).to(device), task


def _peak(device: Any) -> float:
    from paibench.benchmark.steps.device import peak_memory_mb

    return peak_memory_mb(device)


class RemoteServices:
    """What there is on the other side of the walls: someone who keeps and finds, and who counts."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._speaker = os.getpid()
        self._asked_to_leave = False
        self._forward = self._backward = 0
        self._said = 0.0

    def say(self, kind: str, carries: bytes = b"", **says: Any) -> None:
        """Say something, after what was spent until now.

        A process that a method has forked ends here: one of us is to come back.
        """
        if os.getpid() != self._speaker:
            os._exit(0)
        if self._forward or self._backward:
            forward, backward = self._forward, self._backward
            self._forward = self._backward = 0
            self._channel.send("spent", forward=forward, backward=backward)
        self._said = time.monotonic()
        self._channel.send(kind, carries, **says)

    def _ask(self, kind: str, **says: Any) -> Message:
        self.say(kind, **says)
        while True:
            answer = self._channel.receive()
            assert answer is not None
            if answer.kind != "leave":
                return answer
            self._asked_to_leave = True

    def spent(self, forward: int, backward: int) -> None:
        """Count examples that passed forward and backward, and say so now and then."""
        self._forward += forward
        self._backward += backward
        if time.monotonic() - self._said > _EVERY:
            self.say("alive")

    def leaving(self) -> bool:
        """Whether this process was asked to leave."""
        while not self._asked_to_leave and select.select([self._channel.socket], [], [], 0)[0]:
            said = self._channel.receive()
            self._asked_to_leave = said is not None and said.kind == "leave"
        return self._asked_to_leave

    def or_leave(self) -> None:
        """Leave where that was asked, since nothing is lost here."""
        if self.leaving():
            from paibench.methods.core.services import Interrupted

            raise Interrupted

    def memo(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """See `Task.memo`: what the other side has under this name, or what is computed here."""
        from safetensors.torch import load, save

        answer = self._ask("memo", name=name)
        if answer.kind == "stage":
            return dict(load(answer.carries))
        import torch

        whole = torch.contiguous_format  # copies: two that share memory cannot be saved
        plain = compute().items()
        data = save({key: each.detach().cpu().clone(memory_format=whole) for key, each in plain})
        self.say("stage", data)
        return dict(load(data))

    def save(self, data: bytes) -> None:
        """Keep a checkpoint."""
        self.say("save", data)

    def load(self) -> bytes | None:
        """The last checkpoint that was kept, if any."""
        return self._ask("load").carries or None

    def kept(self, step: int) -> None:
        """Tell at which step a training was kept."""
        self.say("kept", step=step)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads that were left behind are not waited for

"""Having a stranger's method search in a process of its own: the harness's side of it.

The other side is believed nothing: time, memory and examples are counted here, and what comes back
is checked as data. Whatever it does to itself ends with its process.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Never

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import nn

from paibench.benchmark.data.dataset import DataSet
from paibench.benchmark.data.datasets import embedded
from paibench.benchmark.execution.memory import available_mb
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.provenance import code_path
from paibench.benchmark.sandbox import ticket_io
from paibench.benchmark.sandbox.child import SearchRequest
from paibench.benchmark.sandbox.ipc import Channel, Garbled, Message, pair
from paibench.benchmark.sandbox.isolation import ResourceLimits
from paibench.benchmark.sandbox.process import LOOK_SECONDS, SandboxProcess, sandbox_process
from paibench.benchmark.sandbox.shared_data import share
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.checkpoint import Checkpointer
from paibench.benchmark.steps.search import Find, MethodError, SearchTimeout
from paibench.benchmark.store.names import check_name
from paibench.methods.core.registry import Kind, UserError, local_file
from paibench.methods.core.services import Interrupted
from paibench.methods.core.task import Cost, Memo, State
from paibench.methods.core.text import one_line
from paibench.methods.training.loop import Diverged

_MODULE = "paibench.benchmark.sandbox.child"
_STARTING_SECONDS = 300.0  # to import torch from a slow file system
_LEAVING_SECONDS = 3.0  # in which who is asked to leave may still keep what it is at
_SPEAKING_SECONDS = 60.0  # in which the other side is to take what is said
_SMALL = 1 << 16
_MOST = 1 << 32
_COST = "cost.examples"  # of a stage: see `Task.memo`
_MEMORY_SHARE = 0.8  # of what the machine has free
_TIMES = 16  # the bytes of a network that a message may carry


@dataclass(frozen=True)
class Aids:
    """What a search is given to be resumable and interruptible, and what it is not to see."""

    memo: Memo | None = None
    keeper: Checkpointer | None = None
    origin: str = ""
    """The data and the code that a checkpoint must come from to be gone on from."""
    kept: Callable[[int], object] = lambda step: None
    pulse: Callable[[], object] = lambda: None
    leaving: Callable[[], bool] = lambda: False
    hidden: tuple[Path, ...] = ()


def search_in_sandbox(
    spec: Spec, net: nn.Module, data: DataSet, settings: RunSettings, aids: Aids
) -> Find:
    """Let a method find its ticket in a process of its own.

    `net` is at initialization and not handed over: it is made anew there. Raises what `find` does,
    Overdue for a search that takes too long or gives no sign of life, and Left where that is asked.
    """
    loan = share(data)
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    limits = _limits(settings)
    channel, theirs = pair(min(_SMALL + _TIMES * size, _MOST))
    channel.socket.settimeout(_SPEAKING_SECONDS)
    arguments = [_MODULE, str(theirs.fileno()), str(os.getpid())]
    with (
        closing(channel.socket),
        sandbox_process(
            arguments, [theirs.fileno(), loan.descriptor], settings.threads, limits
        ) as guard,
    ):
        theirs.close()
        order = SearchRequest(
            spec=spec.canonical,
            device=settings.device,
            threads=settings.threads,
            split=loan.about,
            loan=loan.descriptor,
            folder=str(guard.folder),
            readable=[str(path) for path in (*loan.folders, *_code(spec))],
            hidden=[str(path) for path in (*aids.hidden, *_evaluated(settings))],
            limits=asdict(limits),
            origin=aids.origin,
            checkpoint_seconds=aids.keeper.seconds if aids.keeper else 0.0,
            keeps=aids.memo is not None,
            file=local_file(spec.method.name),
        )
        return _Session(channel, guard, aids).have_searched(order)


def isolation_here() -> list[str]:
    """What a search is walled in by on this machine, in words. Raises MethodError, OSError."""
    channel, theirs = pair(_SMALL)
    arguments = [_MODULE, str(theirs.fileno()), str(os.getpid())]
    limits = ResourceLimits()
    with closing(channel.socket), sandbox_process(arguments, [theirs.fileno()], 1, limits) as guard:
        theirs.close()
        order = SearchRequest.none(str(guard.folder), asdict(limits))
        talk = _Session(channel, guard, Aids())
        talk.channel.send("order", **order.plain)
        return [str(wall) for wall in talk._until("walls").says.get("walls", ())]


def _code(spec: Spec) -> Iterator[Path]:
    """Where the code lies that is looked up by name on the other side."""
    names: dict[Kind, str] = {"methods": spec.method.name, "recipes": spec.recipe.name}
    if not spec.model.name.startswith("timm:"):
        names["models"] = spec.model.name
    for kind, name in names.items():
        if place := code_path(name, kind):
            yield place


def _evaluated(settings: RunSettings) -> Iterator[Path]:
    """Where data sets lie, evaluated splits and all."""
    yield embedded()
    if settings.data is not None:
        yield settings.data


def _limits(settings: RunSettings) -> ResourceLimits:
    """What the place says, and otherwise what it has."""
    seconds = settings.search_seconds or ResourceLimits.seconds
    memory_mb = settings.memory_mb or int(_MEMORY_SHARE * available_mb())
    return ResourceLimits(seconds, min(ResourceLimits.silence, seconds), memory_mb)


@dataclass
class _Session:
    """What is said between the two sides until there is a find."""

    channel: Channel
    guard: SandboxProcess
    aids: Aids
    cost: Cost = field(default_factory=Cost)
    _begun: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)
    _searching: bool = False
    _asked_to_leave: float | None = None
    _looked: float = 0.0

    def have_searched(self, order: SearchRequest) -> Find:
        """Give the order, help with the search, and take what is found."""
        self.channel.send("order", **order.plain)
        walls = self._until("walls").says.get("walls")
        self._until("begin")
        self._begun, self._searching = time.monotonic(), True
        found = self._until("found")
        seconds = time.monotonic() - self._begun
        peak = max(self.guard.peak_mb, _number(found, "peak_mb"))
        self.guard.end()  # so that nothing of it is at work beside what follows
        try:
            ticket = ticket_io.unpack(found.carries)
        except ticket_io.BadTicketFile as error:
            raise MethodError(f"what it handed back: {error}") from error
        return Find(ticket, self.cost, seconds, peak, ", ".join(map(str, walls or ())))

    def _until(self, kind: str) -> Message:
        """Answer what is asked until such a message comes; it is returned."""
        while (message := self._next()).kind != kind:
            match message.kind:
                case "alive":
                    pass
                case "spent":
                    self.cost.forward += _count(message, "forward")
                    self.cost.backward += _count(message, "backward")
                case "memo":
                    self._memo(message.says.get("name"))
                case "load":
                    self._say("checkpoint", (self.aids.keeper and self.aids.keeper.load()) or b"")
                case "save" if self.aids.keeper:
                    self.aids.keeper.save(message.carries)
                case "kept":
                    self.aids.kept(_count(message, "step"))
                case _:
                    self._end_with(message)
        return message

    def _end_with(self, message: Message) -> Never:
        """Raise what a message says of how the search ended."""
        reason = one_line(str(message.says.get("reason", "no reason given")))
        match message.kind, message.says.get("cause"):
            case "left", _:
                raise Interrupted
            case "diverged", _:
                raise Diverged(_count(message, "step"))
            case "failed", "input":
                raise UserError(reason)
            case "failed", "memory":
                raise MemoryError(reason)
            case "failed", "crashed":
                raise RuntimeError(reason)
            case "failed", _:
                raise MethodError(reason)
        raise MethodError(f"it spoke out of turn: {one_line(message.kind)[:80]!r}")

    def _memo(self, name: object) -> None:
        """Let a stage be found, or have it computed there and keep it."""
        if not isinstance(name, str) or self.aids.memo is None:
            raise MethodError(f"it asks for a stage that is none: {name!r:.80}")
        try:
            check_name(name, "stage")
        except UserError as error:
            raise MethodError(str(error)) from error
        before, asked, computed = replace(self.cost), time.monotonic(), False

        def compute() -> State:
            nonlocal computed
            computed = True
            self._say("compute")
            state = _state(self._until("stage").carries)
            spent = self.cost.forward - before.forward, self.cost.backward - before.backward
            return state | {_COST: torch.tensor(spent)}

        state = self.aids.memo(name, compute)
        forward, backward = state[_COST].tolist()
        self.cost = Cost(before.forward + forward, before.backward + backward)
        if not computed:
            waited = time.monotonic() - asked  # for others, which is not this search's fault
            self._begun, self._heard = self._begun + waited, self._heard + waited
            self._say("stage", to_bytes(state))

    def _say(self, kind: str, carries: bytes = b"") -> None:
        try:
            self.channel.send(kind, carries)
        except OSError as error:  # it ended, or does not listen
            raise self.guard.why() from error

    def _next(self) -> Message:
        """The next message; what is used is looked at meanwhile, and claims are kept alive."""
        while True:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
            try:
                message = self.channel.receive(LOOK_SECONDS)
            except EOFError:
                raise self.guard.why() from None
            except Garbled as error:
                raise MethodError(f"it spoke out of turn: {error}") from error
            if message is not None:
                self._heard = time.monotonic()
                return message

    def _look(self) -> None:
        self._looked = now = time.monotonic()
        self.aids.pulse()
        self.guard.look()
        limits = self.guard.limits
        if self._searching and now - self._begun > limits.seconds:
            raise SearchTimeout(f"the search took more than its {limits.seconds:g} s; killed")
        if self._searching and now - self._heard > limits.silence:
            raise SearchTimeout(f"the search gave no sign of life for {limits.silence:g} s; killed")
        if not self._searching and now - self._begun > _STARTING_SECONDS:
            raise SearchTimeout(
                f"the process of the search did not start in {_STARTING_SECONDS:g} s"
            )
        if self.aids.leaving():
            if self._asked_to_leave is None:
                self._asked_to_leave = now
                self._say("leave")
            elif now - self._asked_to_leave > _LEAVING_SECONDS:
                raise Interrupted


def _state(data: bytes) -> State:
    try:
        return dict(from_bytes(data))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise MethodError(
            f"a stage of its search is not safetensors: {one_line(str(error))}"
        ) from error


def _count(message: Message, name: str) -> int:
    """A count that a message says."""
    value = message.says.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise MethodError(f"it says {name} = {value!r:.80}, which is no count")
    return value


def _number(message: Message, name: str) -> float:
    value = message.says.get(name)
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return float(value) if sound and isinstance(value, int | float) else 0.0

"""The harness's side of a sandboxed search.

No message of the sandbox is trusted: time, memory and examples are measured here, and
everything it returns is validated as data. Whatever a method does to its own process ends with it.
"""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Never

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
from paibench.benchmark.sandbox.ipc import Channel, InvalidMessage, Message, pair
from paibench.benchmark.sandbox.isolation import ResourceLimits
from paibench.benchmark.sandbox.process import CHECK_SECONDS, SandboxProcess, sandbox_process
from paibench.benchmark.sandbox.shared_data import share
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.blame import MethodError, PluginError
from paibench.benchmark.steps.search import SearchResult, SearchTimeout
from paibench.benchmark.store.names import check_name
from paibench.methods.core.registry import Kind, UserError, local_file
from paibench.methods.core.text import one_line
from paibench.methods.training.loop import Diverged
from paibench.methods.training.services import Interrupted, Services, State

_MODULE = "paibench.benchmark.sandbox.child"
_START_SECONDS = 300.0  # torch may be imported from a slow file system
_STOP_SECONDS = 3.0  # time to save after the sandbox was asked to stop
_SEND_SECONDS = 60.0  # the sandbox must read a message within this time
_SMALL = 1 << 16
_LARGEST_PAYLOAD = 1 << 32
_NETWORKS_PER_PAYLOAD = 16  # a ticket or a checkpoint holds several copies of the weights
_MEMORY_SHARE = 0.8  # of the free memory of the machine


def search_in_sandbox(
    spec: Spec,
    net: nn.Module,
    data: DataSet,
    settings: RunSettings,
    services: Services,
    hidden: Collection[Path] = (),
) -> SearchResult:
    """Run a method in a sandbox; it must not see the `hidden` folders.

    `net` is at initialization; the sandbox builds its own copy. Raises what `find` raises,
    SearchTimeout for a search that is too slow or silent, and Interrupted.
    """
    split = share(data)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    payload_limit = min(_SMALL + _NETWORKS_PER_PAYLOAD * weights, _LARGEST_PAYLOAD)
    limits = _limits(settings)
    with _session(payload_limit, settings.threads, limits, services, split.descriptor) as session:
        request = SearchRequest(
            folder=str(session.process.folder),
            limits=asdict(limits),
            spec=spec.canonical,
            device=settings.device,
            threads=settings.threads,
            split=split.about,
            split_descriptor=split.descriptor,
            readable=tuple(str(path) for path in (*split.folders, *_code(spec))),
            hidden=tuple(str(path) for path in (*hidden, *_evaluated(settings))),
            origin=services.origin,
            checkpoint_seconds=services.checkpoint_seconds,
            method_file=local_file(spec.method.name),
        )
        return session.search(request)


def isolation_here() -> list[str]:
    """Return what isolates a search on this machine. Raises MethodError, OSError."""
    limits = ResourceLimits()
    with _session(_SMALL, 1, limits, Services()) as session:
        return session.isolate(SearchRequest(str(session.process.folder), asdict(limits)))


@contextmanager
def _session(
    payload_limit: int,
    threads: int,
    limits: ResourceLimits,
    services: Services,
    *descriptors: int,
) -> Iterator["_Session"]:
    """Start a sandbox and connect to it; nothing is left of it afterwards."""
    channel, theirs = pair(payload_limit)
    channel.socket.settimeout(_SEND_SECONDS)
    arguments = [_MODULE, str(theirs.fileno()), str(os.getpid())]
    inherited = [theirs.fileno(), *descriptors]
    with (
        closing(channel.socket),
        sandbox_process(arguments, inherited, threads, limits) as process,
    ):
        # our copy would keep the channel open after the sandbox has exited
        theirs.close()
        yield _Session(channel, process, services)


def _code(spec: Spec) -> Iterator[Path]:
    """Yield the paths of the code that the sandbox looks up by name."""
    names: dict[Kind, str] = {"methods": spec.method.name, "recipes": spec.recipe.name}
    if not spec.model.name.startswith("timm:"):
        names["models"] = spec.model.name
    for kind, name in names.items():
        if path := code_path(name, kind):
            yield path


def _evaluated(settings: RunSettings) -> Iterator[Path]:
    """Yield the folders of data sets, which include the evaluated splits."""
    yield embedded()
    if settings.data is not None:
        yield settings.data


def _limits(settings: RunSettings) -> ResourceLimits:
    """Return the limits of the settings, or defaults that suit the machine."""
    seconds = settings.search_seconds or ResourceLimits.seconds
    memory_mb = settings.memory_mb or int(_MEMORY_SHARE * available_mb())
    return ResourceLimits(seconds, min(ResourceLimits.silence, seconds), memory_mb)


@dataclass
class _Session:
    """The conversation with one sandbox: it calls services until it has a result."""

    channel: Channel
    process: SandboxProcess
    services: Services
    _started: float = field(default_factory=time.monotonic)
    _last_message: float = field(default_factory=time.monotonic)
    _searching: bool = False
    _stop_requested: float | None = None
    _last_check: float = 0.0

    def isolate(self, request: SearchRequest) -> list[str]:
        """Send the request, and return what isolates the sandbox."""
        self.channel.send("request", **request.plain)
        return [str(name) for name in self._serve_until("isolated").fields.get("isolation") or ()]

    def search(self, request: SearchRequest) -> SearchResult:
        """Send the request, provide services, and return the validated result."""
        isolation = self.isolate(request)
        self._serve_until("begin")
        # `_started` moves while the sandbox waits, since waiting does not count against its limit
        begun = self._started = time.monotonic()
        self._searching = True
        message = self._serve_until("result")
        seconds = time.monotonic() - begun + self.services.seconds_elsewhere
        peak_mb = max(self.process.peak_mb, _number(message, "peak_mb"))
        self.process.kill()  # nothing of it may compete with the training that follows
        try:
            ticket = ticket_io.unpack(message.payload)
        except ticket_io.BadTicketFile as error:
            raise MethodError(f"what it handed back: {error}") from error
        return SearchResult(ticket, self.services.cost, seconds, peak_mb, ", ".join(isolation))

    def _serve_until(self, kind: str) -> Message:
        """Serve calls until a message of this kind arrives, and return that message."""
        while (message := self._receive()).kind != kind:
            # this list is all that a sandbox may call
            match message.kind:
                case "alive":
                    pass
                case "count":
                    self.services.count(_count(message, "forward"), _count(message, "backward"))
                case "memo":
                    self._memo(message.fields.get("name"))
                case "load":
                    self._send("checkpoint", self.services.load() or b"")
                case "save":
                    self.services.save(message.payload, _count(message, "step"))
                case _:
                    self._raise_end(message)
        return message

    def _raise_end(self, message: Message) -> Never:
        """Raise the error for a message that ends the search without a result."""
        reason = one_line(str(message.fields.get("reason", "no reason given")))
        match message.kind, message.fields.get("cause"):
            case "interrupted", _:
                raise Interrupted
            case "diverged", _:
                raise Diverged(_count(message, "step"))
            case "failed", "input":
                raise UserError(reason)
            case "failed", "other plugin":
                raise PluginError(reason)
            case "failed", "memory":
                raise MemoryError(reason)
            case "failed", "crashed":
                raise RuntimeError(reason)
            case "failed", _:
                raise MethodError(reason)
        raise MethodError(f"it sent an unexpected message: {one_line(message.kind)[:80]!r}")

    def _memo(self, name: object) -> None:
        """Return a stored stage to the sandbox, or have the sandbox compute it."""
        if not isinstance(name, str):
            raise MethodError(f"it asks for a stage that is none: {name!r:.80}")
        try:
            check_name(name, "stage")
        except UserError as error:
            raise MethodError(str(error)) from error
        before, asked, computed = replace(self.services.cost), time.monotonic(), False

        def compute() -> State:
            nonlocal computed
            computed = True
            self._send("compute")
            return _parse_state(self._serve_until("stage").payload)

        state = self.services.memo(name, compute)
        if not computed:
            # waiting for another run's stage does not count against this search's time
            waited = time.monotonic() - asked
            self._started, self._last_message = self._started + waited, self._last_message + waited
            cost = self.services.cost
            self._send(
                "stage",
                to_bytes(state),
                forward=cost.forward - before.forward,
                backward=cost.backward - before.backward,
            )

    def _send(self, kind: str, payload: bytes = b"", **fields: int) -> None:
        try:
            self.channel.send(kind, payload, **fields)
        except OSError as error:  # the sandbox has exited, or does not read
            raise self.process.exit_error() from error

    def _receive(self) -> Message:
        """Return the next message; check limits and give heartbeats while waiting."""
        while True:
            if time.monotonic() - self._last_check > CHECK_SECONDS:
                self._check()
            try:
                message = self.channel.receive(CHECK_SECONDS)
            except EOFError:
                raise self.process.exit_error() from None
            except InvalidMessage as error:
                raise MethodError(f"it sent an unexpected message: {error}") from error
            if message is not None:
                self._last_message = time.monotonic()
                return message

    def _check(self) -> None:
        self._last_check = now = time.monotonic()
        try:
            self.services.heartbeat()
        except Interrupted:
            # the sandbox gets a moment to save its training
            if self._stop_requested is None:
                self._stop_requested = now
                self._send("stop")
            elif now - self._stop_requested > _STOP_SECONDS:
                raise
        self.process.check_limits()
        limits = self.process.limits
        if self._searching and now - self._started > limits.seconds:
            raise SearchTimeout(f"the search took more than its {limits.seconds:g} s; killed")
        if self._searching and now - self._last_message > limits.silence:
            raise SearchTimeout(f"the search gave no sign of life for {limits.silence:g} s; killed")
        if not self._searching and now - self._started > _START_SECONDS:
            raise SearchTimeout(f"the process of the search did not start in {_START_SECONDS:g} s")


def _parse_state(data: bytes) -> State:
    try:
        return dict(from_bytes(data))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise MethodError(
            f"a stage of its search is not safetensors: {one_line(str(error))}"
        ) from error


def _count(message: Message, name: str) -> int:
    """Return a field that must be a count."""
    value = message.fields.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise MethodError(f"it says {name} = {value!r:.80}, which is no count")
    return value


def _number(message: Message, name: str) -> float:
    """Return a field that should be a number; 0 if it is not."""
    value = message.fields.get(name)
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return float(value) if valid and isinstance(value, int | float) else 0.0

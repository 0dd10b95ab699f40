"""The cases themselves: what is done to a finder, and what is expected of it."""

import copy
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from paibench.methods.conformance.networks import half_dead, network, separable, task
from paibench.methods.conformance.probes import RecordGenerators, count_examples
from paibench.methods.core.mask import (
    Mask,
    apportion,
    keep_top,
    keep_top_per_layer,
    prunable,
    total,
)
from paibench.methods.core.mask_file import digest
from paibench.methods.core.random_streams import derive, generator
from paibench.methods.core.signature import Option
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket, as_ticket
from paibench.methods.training.data import Images
from paibench.methods.training.services import Compute, Services, State

DENSITIES = (1.0, 0.7, 0.5, 0.1, 0.03)
"""And one more, that of a single weight."""

USUAL = 0.3
SEEDS = (0, 1, 2)
MARGIN = 0.2
"""Of accuracy, by which a mask may be worse than a random one on the separable task."""


class CaseFailed(AssertionError):
    """A finder does not do what is expected of it."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came


class NotApplicable(Exception):
    """A case needs what this machine has not."""


@dataclass(frozen=True)
class Finder:
    """A finder under test."""

    name: str
    load: Callable[[], Any]
    options: Mapping[str, Option]
    trouble: str = ""
    """Why its options cannot be read, if so."""

    @cached_property
    def finder(self) -> Callable[..., Any]:
        """The function, imported now."""
        finder: Callable[..., Any] = self.load()
        return finder

    @property
    def usual(self) -> float:
        """A density to search at; the dense reference knows but one."""
        return 1.0 if self.name == "dense" else USUAL

    def ticket(self, net: nn.Module, given: Task, density: float, **options: Any) -> Ticket:
        """What it finds on a copy of a network, as the harness lets it search."""
        before = _look()
        try:
            with torch.random.fork_rng():
                torch.manual_seed(derive(given.seed, "search", self.name))
                found = self.finder(copy.deepcopy(net), given, density, **options)
        finally:
            _set(before)
        try:
            return as_ticket(found)
        except ValueError as error:
            raise CaseFailed("a Mask, Scores or a Ticket", _words(error)) from error

    def mask(self, net: nn.Module, given: Task, density: float, **options: Any) -> Mask:
        """The mask that comes of that, as far as it goes: its names, types and counts are looked at
        by cases of their own.
        """
        ticket = self.ticket(net, given, density, **options)
        return _as_far_as_it_goes(ticket.mask, net, density)

    @cached_property
    def repeats(self) -> bool:
        """Whether two searches that nothing tells apart give one mask."""
        net = network("plain")
        return digest(self.mask(net, task(), USUAL)) == digest(self.mask(net, task(), USUAL))


def _as_far_as_it_goes(found: Mask | Scores, net: nn.Module, density: float) -> Mask:
    weights = prunable(net)
    values = found.values if isinstance(found, Scores) else found
    fitting = {
        name: values[name].detach()
        for name, weight in weights.items()
        if name in values and values[name].shape == weight.shape
    }
    if not isinstance(found, Scores):
        return {name: value.bool() for name, value in fitting.items()}
    numbers = {name: value.double().nan_to_num() for name, value in fitting.items()}
    if found.kept:
        return keep_top_per_layer(numbers, {name: found.kept.get(name, 0) for name in numbers})
    return keep_top(numbers, min(round(density * total(weights)), total(numbers)))


def run_case(subject: Finder, case: str) -> None:
    """Run a case by name, in one thread: the networks are small.

    Raises CaseFailed or NotApplicable.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _RUNS[case](subject)
    except (CaseFailed, NotApplicable):
        raise
    except Exception as error:  # the finder's, whatever it is
        raise CaseFailed("a search without an error", _words(error)) from error
    finally:
        torch.set_num_threads(threads)


def _options(subject: Finder) -> None:
    """Defaults said out loud change nothing."""
    if subject.trouble:
        raise CaseFailed("a function whose options can be read without running it", subject.trouble)
    _need_to_repeat(subject)
    net = network("plain")
    said = {name: option.default for name, option in subject.options.items()}
    plain = subject.mask(net, task(), subject.usual)
    _same(plain, subject.mask(net, task(), subject.usual, **said), "options at their defaults")
    try:
        subject.finder(copy.deepcopy(net), task(), subject.usual, no_such_option=1)
    except TypeError:
        return
    raise CaseFailed("a TypeError for an option that is unknown", "a search without one")


def _need_to_repeat(subject: Finder) -> None:
    """Masks of two searches can be compared only where nothing but the searches may differ."""
    if subject.name != "dense" and not subject.repeats:
        raise NotApplicable("two searches with one seed differ already")


def _covers(subject: Finder) -> None:
    net = network("plain")
    weights = prunable(net)
    found = subject.ticket(net, task(), subject.usual).mask
    values = found.values if isinstance(found, Scores) else found
    for name in weights:
        if name not in values:
            raise CaseFailed(f"the prunable weight {name!r}", f"{_listed(values)}")
    for name, value in values.items():
        if name not in weights:
            raise CaseFailed("prunable weights alone", f"{name!r:.80}, which is none")
        if value.shape != weights[name].shape:
            shapes = tuple(weights[name].shape), tuple(value.shape)
            raise CaseFailed(f"{name} of shape {shapes[0]}", f"shape {shapes[1]}")
        if not isinstance(found, Scores) and value.dtype != torch.bool:
            raise CaseFailed(f"a mask of {name} of torch.bool", f"{value.dtype}")


def _count(subject: Finder) -> None:
    net = network("plain")
    whole = total(prunable(net))
    densities = (1.0,) if subject.name == "dense" else (*DENSITIES, 1 / whole)
    for density in densities:
        found = subject.ticket(net, task(), density).mask
        asked = round(density * whole)
        if isinstance(found, Scores):
            kept = sum(found.kept.values()) if found.kept else asked
        else:
            kept = sum(int(each.count_nonzero()) for each in found.values())
        if kept != asked:
            raise CaseFailed(f"{asked} of {whole} weights at density {density:.4g}", f"{kept} kept")


def _finite(subject: Finder) -> None:
    found = subject.ticket(network("plain"), task(), subject.usual).mask
    for name, score in found.values.items() if isinstance(found, Scores) else ():
        if bad := int((~score.isfinite()).sum()):
            raise CaseFailed("finite scores", f"{bad} of {score.numel()} of {name} are not")


def _same_seed(subject: Finder) -> None:
    net = network("plain")
    first, second = (subject.mask(net, task(3), subject.usual) for _ in range(2))
    _same(first, second, "another search with the same seed")


def _seed(subject: Finder) -> None:
    """Nets, data order and generator differ with the seed, as in the harness."""
    if subject.name == "dense":
        return
    masks, drawn = [], []
    for seed in SEEDS:
        net, given = network("plain", seed=seed), task(seed)
        with RecordGenerators() as seen:
            masks.append(digest(subject.mask(net, given, USUAL)))
        drawn.append(seen.seeds)
    if len(set(masks)) == 1:
        came = "one mask for three seeds with other weights, other order of data, other draws"
        raise CaseFailed("a mask that depends on something", came)
    if fixed := drawn[0] & drawn[1]:
        came = f"a generator that was seeded with {min(fixed)} in two runs of other seeds"
        raise CaseFailed("draws from task.generator alone", came)


def _again(subject: Finder) -> None:
    _need_to_repeat(subject)
    first_net, other_net = network("plain", seed=5), network("plain", seed=6)
    first = subject.mask(first_net, task(0), subject.usual)
    subject.mask(other_net, task(1), subject.usual)
    if subject.name != "dense":
        subject.mask(first_net, task(0), 0.1)
    _same(first, subject.mask(first_net, task(0), subject.usual), "the same after other searches")


def _untouched(subject: Finder) -> None:
    net, given = network("plain").train(), task()
    before, flags = copy.deepcopy(net.state_dict()), _flags(net)
    data = [tensor.clone() for tensor in _tensors(given)]
    with _globals_as_before():
        subject.finder(copy.deepcopy(net), given, subject.usual)
    for name, value in net.state_dict().items():
        if not torch.equal(value, before[name]):
            raise CaseFailed(f"{name} of the harness's network as before", "other values")
    if _flags(net) != flags:
        raise CaseFailed("modes and gradients of the harness's network as before", "others")
    for old, new in zip(data, _tensors(given), strict=True):
        if not torch.equal(old, new):
            raise CaseFailed("the training data as before", "other values")


def _tensors(given: Task) -> list[Tensor]:
    """The training data where they lie."""
    data = given._data
    assert isinstance(data, Images)
    return [data.pixels, data.labels]


def _flags(net: nn.Module) -> list[object]:
    parameters = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    hooks = [len(module._forward_hooks) for module in net.modules()]
    return [[module.training for module in net.modules()], parameters, hooks]


def _look() -> dict[str, Any]:
    hooks = torch.nn.modules.module
    return {
        "the hooks of all modules": (
            len(hooks._global_forward_hooks),
            len(hooks._global_forward_pre_hooks),
            len(hooks._global_backward_hooks),
        ),
        "the default device": torch.get_default_device(),
        "the number of running threads": threading.active_count(),
        "the present folder": os.getcwd(),
        "the environment": dict(os.environ),
        "the path of imports": list(sys.path),
        "the number of threads": torch.get_num_threads(),
        "the default dtype": torch.get_default_dtype(),
        "the grad mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
    }


@contextmanager
def _globals_as_before() -> Iterator[None]:
    before, states = _look(), (torch.get_rng_state(), random.getstate(), np.random.get_state())
    try:
        yield
        for what, now in _look().items():
            if now != before[what]:
                raise CaseFailed(
                    f"{what} as before{_briefly(before[what])}", f"another{_briefly(now)}"
                )
        drew = {
            "torch's": not torch.equal(torch.get_rng_state(), states[0]),
            "Python's": random.getstate() != states[1],
            "NumPy's": not _equal_states(np.random.get_state(), states[2]),
        }
        for whose, other in drew.items():
            if other:
                came = f"draws from {whose} global generator; draw from task.generator"
                raise CaseFailed("the global random state as before", came)
    finally:
        _set(before)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _briefly(value: object) -> str:
    return "" if isinstance(value, dict | list) else f": {value}"


def _set(look: Mapping[str, Any]) -> None:
    torch.set_num_threads(look["the number of threads"])
    torch.set_default_dtype(look["the default dtype"])
    torch.set_grad_enabled(look["the grad mode"])
    torch.use_deterministic_algorithms(look["deterministic algorithms"])
    torch.autograd.set_detect_anomaly(look["anomaly detection"])
    os.chdir(look["the present folder"])
    os.environ.clear()
    os.environ.update(look["the environment"])
    sys.path[:] = look["the path of imports"]
    torch.set_default_device(look["the default device"])


def _equal_states(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _network(kind: str) -> Callable[[Finder], None]:
    def run(subject: Finder) -> None:
        subject.mask(network(kind), task(), subject.usual)

    return run


def _float64(subject: Finder) -> None:
    subject.mask(network("plain", torch.float64), task(dtype=torch.float64), subject.usual)


def _cost(subject: Finder) -> None:
    net, given = network("plain"), task()
    with count_examples(net) as passed:
        subject.ticket(net, given, subject.usual)
    for way, seen, mend in (
        ("forward", passed.forward, "ask task.batches again for each pass"),
        ("backward", passed.backward, "take task.loss"),
    ):
        counted = getattr(given.cost, way)
        if counted < seen:
            raise CaseFailed(f"{seen} examples counted {way}", f"{counted} counted; {mend}")


class _Killed(BaseException):
    """As if by SIGKILL: no finder is to catch it."""


@dataclass
class _Kept:
    """What a store is to `Task.memo`, and after how many new stages the process is killed."""

    stages: dict[str, bytes]
    kill_after: int | None = None

    def find(self, name: str, compute: Compute) -> State:
        if name not in self.stages:
            state = {key: each.detach().cpu().contiguous() for key, each in compute().items()}
            self.stages[name] = save(state)
            if self.kill_after is not None:
                self.kill_after -= 1
                if self.kill_after < 0:
                    raise _Killed
        return dict(load(self.stages[name]))


def _memo(subject: Finder) -> None:
    _need_to_repeat(subject)
    density = 1.0 if subject.name == "dense" else 0.5
    net, kept = network("plain"), _Kept({})
    given = task(services=Services(kept.find))
    whole = subject.mask(net, given, density)
    for stage in range(len(kept.stages)):
        part = _Kept({}, kill_after=stage)
        killed = task(services=Services(part.find))
        with suppress(_Killed):
            subject.finder(copy.deepcopy(net), killed, density)
        resumed = task(services=Services(_Kept(part.stages).find))
        mask = subject.mask(net, resumed, density)
        _same(whole, mask, f"a search that was killed after stage {stage + 1}")
        if resumed.cost != given.cost:
            raise CaseFailed(f"the cost {given.cost} after a kill", f"{resumed.cost}")


def _better(subject: Finder) -> None:
    """A finder that keeps what it ought to prune keeps the dead half."""
    density = 1.0 if subject.name == "dense" else 0.1
    ours, chance = [], []
    for seed in SEEDS:
        net = half_dead(seed)
        ticket = subject.ticket(net, separable(seed), density)
        ours.append(_accuracy(net, _as_far_as_it_goes(ticket.mask, net, density), ticket, seed))
        chance.append(_accuracy(net, _random(net, density, seed), None, seed))
    mine, others = (sum(found) / len(SEEDS) for found in (ours, chance))
    if mine < others - MARGIN:
        came = f"{mine:.2f}: does it keep what it ought to prune?"
        raise CaseFailed(f"accuracy near a random mask's {others:.2f}", came)


def _random(net: nn.Module, density: float, seed: int) -> Mask:
    """A random mask with this density in every layer."""
    weights, draw = prunable(net), generator(seed, "conformance")
    sizes = {name: weight.numel() for name, weight in weights.items()}
    kept = apportion(sizes, dict.fromkeys(sizes, density), round(density * total(weights)))
    scores = {name: torch.rand(weight.shape, generator=draw) for name, weight in weights.items()}
    return keep_top_per_layer(scores, kept)


def _accuracy(net: nn.Module, mask: Mask, ticket: Ticket | None, seed: int) -> float:
    """Of the trained ticket on its training data."""
    trained, given = copy.deepcopy(net), separable(seed)
    if ticket and ticket.weights:
        trained.load_state_dict(ticket.weights, strict=False)
    given.fit(trained, mask=mask)
    inputs, labels = next(iter(given.batches()))
    with torch.no_grad():
        return float((trained(inputs).argmax(1) == labels).float().mean())


def _gpu(subject: Finder) -> None:
    if not torch.cuda.is_available():
        raise NotApplicable("there is no GPU here")
    net = network("batch-norm").cuda()
    masks = [subject.mask(net, task(device="cuda"), subject.usual) for _ in range(2)]
    _same(masks[0], masks[1], "another search with the same seed on the GPU")


def _same(one: Mask, other: Mask, what: str) -> None:
    if digest(one) != digest(other):
        moved = sum(int((one[name] ^ other[name]).sum()) for name in one)
        raise CaseFailed(f"the same mask from {what}", f"{moved} of {total(one)} weights differ")


def _listed(values: Mapping[str, Tensor]) -> str:
    return ", ".join(list(values)[:8]) or "nothing"


def _words(error: BaseException) -> str:
    """An exception as one line."""
    try:
        said = str(error)
    except Exception:
        said = "its message cannot be read"
    return " ".join(f"{type(error).__name__}: {said}".split())[:300]


_RUNS: dict[str, Callable[[Finder], None]] = {
    "options": _options,
    "covers": _covers,
    "count": _count,
    "finite": _finite,
    "same-seed": _same_seed,
    "seed": _seed,
    "again": _again,
    "untouched": _untouched,
    "batch-norm": _network("batch-norm"),
    "tied": _network("tied"),
    "bias-free": _network("bias-free"),
    "transformer": _network("transformer"),
    "float64": _float64,
    "cost": _cost,
    "memo": _memo,
    "better": _better,
    "gpu": _gpu,
}

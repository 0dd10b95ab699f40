"""The conformance cases: each runs a finder and compares the outcome with the contract."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from paibench.methods.conformance.networks import half_dead, network, separable
from paibench.methods.conformance.networks import task as new_task
from paibench.methods.conformance.probes import (
    RecordGenerators,
    count_examples,
    global_state,
    restore,
    unchanged_globals,
)
from paibench.methods.conformance.report import (
    CASES,
    CaseFailed,
    NotApplicable,
    Outcome,
    Result,
)
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
from paibench.methods.core.registry import UserError, find, is_file, use_file
from paibench.methods.core.signature import Option, describe
from paibench.methods.core.task import Task
from paibench.methods.core.text import in_words
from paibench.methods.core.ticket import Channels, Scores, Ticket, as_ticket, select
from paibench.methods.training.data import Images
from paibench.methods.training.services import Compute, Services, State

DENSITIES = (1.0, 0.7, 0.5, 0.1, 0.03)  # of the case `count`, which adds that of a single weight
DENSITY = 0.3  # of the other cases
SEEDS = (0, 1, 2)
MARGIN = 0.2  # of accuracy, by which a mask may be worse than a random one in the case `better`


@dataclass(frozen=True)
class Finder:
    """A finder under test."""

    name: str
    load: Callable[[], Any]
    options: Mapping[str, Option]
    options_error: str = ""
    """Why its options cannot be read, if they cannot."""

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function, imported on first use."""
        function: Callable[..., Any] = self.load()
        return function

    @property
    def density(self) -> float:
        """The density of most cases; the dense reference accepts only 1."""
        return 1.0 if self.name == "dense" else DENSITY

    def output(self, net: nn.Module, task: Task, density: float, **options: Any) -> object:
        """Search on a copy of a network, with the global generators seeded as in the harness."""
        state = global_state()
        try:
            with torch.random.fork_rng():
                torch.manual_seed(derive(task.seed, "search", self.name))
                return self.function(copy.deepcopy(net), task, density, **options)
        finally:
            # a finder that changes settings must fail `untouched`, and not the cases after it
            restore(state)

    def ticket(self, net: nn.Module, task: Task, density: float, **options: Any) -> Ticket:
        """Search, and return the ticket even if its mask is not of booleans."""
        return _ticket(_with_booleans(self.output(net, task, density, **options)))

    def mask(self, net: nn.Module, task: Task, density: float, **options: Any) -> Mask:
        """Search, and return the mask even if it breaks the contract."""
        output = self.ticket(net, task, density, **options).mask
        return _lenient_mask(output, net, density, task.seed)

    @cached_property
    def repeats(self) -> bool:
        """Whether two searches with equal inputs give the same mask."""
        net = network("plain")
        first, second = (self.mask(net, new_task(), DENSITY) for _ in range(2))
        return digest(first) == digest(second)


def _ticket(output: object) -> Ticket:
    try:
        return as_ticket(output)
    except ValueError as error:
        raise CaseFailed("a Mask, Scores or a Ticket", in_words(error)) from error


def _with_booleans(output: object) -> object:
    # one fault should fail one case, and the case `covers` is strict
    ticket = output if isinstance(output, Ticket) else Ticket(output)  # type: ignore[arg-type]
    if not isinstance(ticket.mask, Mapping):
        return output
    mask = {n: each.bool() if isinstance(each, Tensor) else each for n, each in ticket.mask.items()}
    return replace(ticket, mask=mask)


def _lenient_mask(
    output: Mask | Scores | Channels, net: nn.Module, density: float, seed: int
) -> Mask:
    # One fault should fail one case: other cases check names, shapes, counts and NaN.
    weights = prunable(net)
    if isinstance(output, Channels):
        return _selected(output, net, density)
    values = output.values if isinstance(output, Scores) else output
    fitting = {
        name: values[name].detach()
        for name, weight in weights.items()
        if name in values and values[name].shape == weight.shape
    }
    if not isinstance(output, Scores):
        return {name: value.bool() for name, value in fitting.items()}
    scores = {name: value.double().nan_to_num() for name, value in fitting.items()}
    if output.kept:
        counts = {name: output.kept.get(name, 0) for name in scores}
        return keep_top_per_layer(scores, counts, seed=seed)
    return keep_top(scores, min(round(density * total(weights)), total(scores)), seed=seed)


def _selected(output: Channels, net: nn.Module, density: float) -> Mask:
    """Return the mask of whole channels. Raises CaseFailed if they do not fit the network."""
    try:
        return select(output, net, density)
    except ValueError as error:
        raise CaseFailed("channels of the network", in_words(error)) from error


def finder(method: str) -> Finder:
    """Return a finder by its registered name, or as `file.py:function`.

    Raises UserError if it does not exist.
    """
    name = use_file(method) if is_file(method) else method
    entry = find(name)
    try:
        return Finder(name, entry.load, describe(entry).options)
    except UserError as error:
        # the case `options` reports this; the other cases call the finder with its defaults
        return Finder(name, entry.load, {}, options_error=str(error))


def run_case(subject: Finder, case: str) -> None:
    """Run a case by name. Raises CaseFailed or NotApplicable."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are too small for more
    try:
        _RUNS[case](subject)
    except (CaseFailed, NotApplicable):
        raise
    except Exception as error:  # a finder may raise anything
        raise CaseFailed("a search without an error", in_words(error)) from error
    finally:
        torch.set_num_threads(threads)


def results(method: str, cases: Iterable[str] = CASES) -> Iterator[Result]:
    """Run cases one after the other. Raises UserError if the method does not exist."""
    subject = finder(method)
    for case in cases:
        start = time.perf_counter()
        outcome: Outcome = "passed"
        expected = actual = ""
        try:
            run_case(subject, case)
        except NotApplicable as error:
            outcome, actual = "skipped", str(error)
        except CaseFailed as error:
            outcome, expected, actual = "failed", error.expected, error.actual
        yield Result(case, outcome, expected, actual, round(time.perf_counter() - start, 3))


def _options(subject: Finder) -> None:
    if subject.options_error:
        raise CaseFailed("options that can be read without running it", subject.options_error)
    _require_repeats(subject)
    net = network("plain")
    defaults = {name: option.default for name, option in subject.options.items()}
    plain = subject.mask(net, new_task(), subject.density)
    explicit = subject.mask(net, new_task(), subject.density, **defaults)
    _check_same(plain, explicit, "options at their defaults")
    try:
        # a finder with **kwargs would accept a misspelt option and ignore it
        subject.function(copy.deepcopy(net), new_task(), subject.density, no_such_option=1)
    except TypeError:
        return
    raise CaseFailed("a TypeError for an option that is unknown", "no error")


def _require_repeats(subject: Finder) -> None:
    """Raise NotApplicable if equal searches differ, because then no two masks are comparable."""
    if subject.name != "dense" and not subject.repeats:
        raise NotApplicable("two searches with the same seed differ")


def _covers(subject: Finder) -> None:
    net = network("plain")
    weights = prunable(net)
    output = _ticket(subject.output(net, new_task(), subject.density)).mask
    if isinstance(output, Channels):
        output = _selected(output, net, subject.density)
    values = output.values if isinstance(output, Scores) else output
    for name in weights:
        if name not in values:
            raise CaseFailed(f"the prunable weight {name!r}", f"{_listed(values)}")
    for name, value in values.items():
        if name not in weights:
            raise CaseFailed("only prunable weights", f"{name!r:.80}")
        if value.shape != weights[name].shape:
            shapes = tuple(weights[name].shape), tuple(value.shape)
            raise CaseFailed(f"{name} of shape {shapes[0]}", f"shape {shapes[1]}")


def _count(subject: Finder) -> None:
    net = network("plain")
    prunable_count = total(prunable(net))
    densities = (1.0,) if subject.name == "dense" else (*DENSITIES, 1 / prunable_count)
    for density in densities:
        output = subject.ticket(net, new_task(), density).mask
        expected = round(density * prunable_count)
        if isinstance(output, Scores):
            kept_count = sum(output.kept.values()) if output.kept else expected
        elif isinstance(output, Channels):
            # the only kind of mask that may keep fewer
            selected = _selected(output, net, density)
            kept_count = max(sum(int(each.sum()) for each in selected.values()), expected)
        else:
            kept_count = sum(int(each.count_nonzero()) for each in output.values())
        if kept_count != expected:
            raise CaseFailed(
                f"{expected} of {prunable_count} weights at density {density:.4g}",
                f"{kept_count} kept",
            )


def _finite(subject: Finder) -> None:
    output = subject.ticket(network("plain"), new_task(), subject.density).mask
    for name, score in output.values.items() if isinstance(output, Scores) else ():
        if bad := int((~score.isfinite()).sum()):
            raise CaseFailed("finite scores", f"{bad} of {score.numel()} of {name} are not")


def _same_seed(subject: Finder) -> None:
    net = network("plain")
    first, second = (subject.mask(net, new_task(3), subject.density) for _ in range(2))
    _check_same(first, second, "another search with the same seed")


def _seed(subject: Finder) -> None:
    if subject.name == "dense":
        return
    digests, generators = [], []
    for seed in SEEDS:
        # as in the harness, weights, data order and task.generator all differ with the seed
        net, task = network("plain", seed=seed), new_task(seed)
        with RecordGenerators() as recorded:
            digests.append(digest(subject.mask(net, task, DENSITY)))
        generators.append(recorded.seeds)
    if len(set(digests)) == 1:
        actual = "one mask for three seeds, with different weights, data order and draws"
        raise CaseFailed("a mask that depends on the seed", actual)
    # the harness derives every stream from the seed, so that a common one is the finder's own
    if fixed := generators[0] & generators[1]:
        actual = f"a generator seeded with {min(fixed)} in two runs with different seeds"
        expected = "draws from task.generator only, and ties broken with seed=task.seed"
        raise CaseFailed(expected, actual)


def _again(subject: Finder) -> None:
    _require_repeats(subject)
    first_net, other_net = network("plain", seed=5), network("plain", seed=6)
    first = subject.mask(first_net, new_task(0), subject.density)
    # other weights, seeds and densities reveal a finder that caches in its module
    subject.mask(other_net, new_task(1), subject.density)
    if subject.name != "dense":
        subject.mask(first_net, new_task(0), 0.1)
    repeated = subject.mask(first_net, new_task(0), subject.density)
    _check_same(first, repeated, "the same search after other searches")


def _untouched(subject: Finder) -> None:
    net, task = network("plain").train(), new_task()
    before, flags = copy.deepcopy(net.state_dict()), _flags(net)
    data = [tensor.clone() for tensor in _tensors(task)]
    # called directly, because `Finder.ticket` restores what the search changes
    with unchanged_globals():
        subject.function(copy.deepcopy(net), task, subject.density)
    for name, value in net.state_dict().items():
        if not torch.equal(value, before[name]):
            raise CaseFailed(f"{name} of the harness's network unchanged", "other values")
    if _flags(net) != flags:
        raise CaseFailed("modes and gradients of the harness's network unchanged", "others")
    for old, new in zip(data, _tensors(task), strict=True):
        if not torch.equal(old, new):
            raise CaseFailed("the training data unchanged", "other values")


def _tensors(task: Task) -> list[Tensor]:
    """Return the training data themselves, not a copy."""
    data = task._data
    assert isinstance(data, Images)
    return [data.pixels, data.labels]


def _flags(net: nn.Module) -> list[object]:
    parameters = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    hooks = [len(module._forward_hooks) for module in net.modules()]
    return [[module.training for module in net.modules()], parameters, hooks]


def _network(kind: str) -> Callable[[Finder], None]:
    def run(subject: Finder) -> None:
        try:
            subject.mask(network(kind), new_task(), subject.density)
        except UserError as error:
            # the cases on the plain network fail, so that nobody can refuse everything
            raise NotApplicable(f"it refuses this network: {error}") from error

    return run


def _float64(subject: Finder) -> None:
    subject.mask(network("plain", torch.float64), new_task(dtype=torch.float64), subject.density)


def _cost(subject: Finder) -> None:
    net, task = network("plain"), new_task()
    with count_examples(net) as passed:
        subject.ticket(net, task, subject.density)
    for direction, seen, hint in (
        ("forward", passed.forward, "call task.batches again for each pass"),
        ("backward", passed.backward, "use task.loss"),
    ):
        counted = getattr(task.cost, direction)
        if counted < seen:
            raise CaseFailed(f"{seen} examples counted {direction}", f"{counted} counted; {hint}")


class _Killed(BaseException):
    """A simulated SIGKILL; a BaseException, so that finders do not catch it."""


@dataclass
class _Stages:
    """A store of stages that kills the search after `kill_after` new stages."""

    stages: dict[str, bytes]
    kill_after: int | None = None

    def find(self, name: str, compute: Compute) -> State:
        if name not in self.stages:
            state = {key: each.detach().cpu().contiguous() for key, each in compute().items()}
            # as bytes: later changes of the tensors must not reach the stored stage
            self.stages[name] = save(state)
            if self.kill_after is not None:
                self.kill_after -= 1
                if self.kill_after < 0:
                    raise _Killed
        return dict(load(self.stages[name]))


def _memo(subject: Finder) -> None:
    _require_repeats(subject)
    density = 1.0 if subject.name == "dense" else 0.5
    net, store = network("plain"), _Stages({})
    task = new_task(services=Services(store.find))
    expected = subject.mask(net, task, density)
    for stage in range(len(store.stages)):
        partial_store = _Stages({}, kill_after=stage)
        killed = new_task(services=Services(partial_store.find))
        with suppress(_Killed):
            subject.function(copy.deepcopy(net), killed, density)
        resumed = new_task(services=Services(_Stages(partial_store.stages).find))
        mask = subject.mask(net, resumed, density)
        _check_same(expected, mask, f"a search that was killed after stage {stage + 1}")
        if resumed.cost != task.cost:
            raise CaseFailed(f"the cost {task.cost} after a kill", f"{resumed.cost}")


def _better(subject: Finder) -> None:
    # a finder with the wrong sign keeps the dead half of the network
    density = 1.0 if subject.name == "dense" else 0.1
    accuracies, random_accuracies = [], []
    for seed in SEEDS:
        net = half_dead(seed)
        ticket = subject.ticket(net, separable(seed), density)
        mask = _lenient_mask(ticket.mask, net, density, seed)
        accuracies.append(_accuracy(net, mask, ticket, seed))
        random_accuracies.append(_accuracy(net, _random(net, density, seed), None, seed))
    accuracy, random_accuracy = (sum(each) / len(SEEDS) for each in (accuracies, random_accuracies))
    if accuracy < random_accuracy - MARGIN:
        actual = f"{accuracy:.2f}: does it keep the weights that it should prune?"
        raise CaseFailed(f"accuracy near a random mask's {random_accuracy:.2f}", actual)


def _random(net: nn.Module, density: float, seed: int) -> Mask:
    """Return a random mask with this density in each layer."""
    weights, draw = prunable(net), generator(seed, "conformance")
    sizes = {name: weight.numel() for name, weight in weights.items()}
    kept_count = round(density * total(weights))
    kept_counts = apportion(sizes, dict.fromkeys(sizes, density), kept_count, seed=seed)
    scores = {name: torch.rand(weight.shape, generator=draw) for name, weight in weights.items()}
    return keep_top_per_layer(scores, kept_counts)


def _accuracy(net: nn.Module, mask: Mask, ticket: Ticket | None, seed: int) -> float:
    """Return the accuracy of the trained ticket on its training data."""
    trained, task = copy.deepcopy(net), separable(seed)
    if ticket and ticket.weights:
        # a ticket may replace only a part of the state
        trained.load_state_dict(ticket.weights, strict=False)
    task.fit(trained, mask=mask)
    inputs, labels = next(iter(task.batches()))
    with torch.no_grad():
        return float((trained(inputs).argmax(1) == labels).float().mean())


def _gpu(subject: Finder) -> None:
    if not torch.cuda.is_available():
        raise NotApplicable("this machine has no GPU")
    net = network("batch-norm").cuda()
    masks = [subject.mask(net, new_task(device="cuda"), subject.density) for _ in range(2)]
    _check_same(masks[0], masks[1], "another search with the same seed on the GPU")


def _check_same(one: Mask, other: Mask, what: str) -> None:
    if digest(one) != digest(other):
        count = sum(int((one[name] ^ other[name]).sum()) for name in one)
        raise CaseFailed(f"the same mask from {what}", f"{count} of {total(one)} weights differ")


def _listed(values: Mapping[str, Tensor]) -> str:
    return ", ".join(list(values)[:8]) or "nothing"


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

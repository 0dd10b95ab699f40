"""Finding a ticket: a method is given a copy of the network and a task, and held to its word."""

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from paibench.benchmark.spec import Spec
from paibench.methods.core.mask import Mask, Weights
from paibench.methods.core.random_streams import derive, generator
from paibench.methods.core.registry import UserError, get
from paibench.methods.core.task import Cost, Task
from paibench.methods.core.text import in_words
from paibench.methods.core.ticket import Ticket, as_ticket, select
from paibench.methods.training.loop import Diverged


def shuffle(mask: Mask, seed: int) -> Mask:
    """The mask with its entries permuted at random within each layer."""
    draw = generator(seed, "shuffle")
    shuffled = {}
    for name, kept in mask.items():
        places = torch.randperm(kept.numel(), generator=draw).to(kept.device)
        shuffled[name] = kept.reshape(-1)[places].view(kept.shape)
    return shuffled


def reinit_seed(seed: int) -> int:
    """The seed of the fresh weights that go with a run's own seed."""
    return derive(seed, "reinit") % 2**31


# search: Finding a ticket: a method is given a copy of the network and a task, and held to its
# word.


@dataclass(frozen=True)
class Find:
    """What a method handed back, not yet held to its word, and what finding it cost."""

    ticket: Ticket
    cost: Cost
    seconds: float
    peak_mb: float = 0.0
    """The most memory of a process of its own; 0 where it had none."""
    isolation: str | None = None
    """What stood between the method and the harness, in words; None for the suite's own."""


@dataclass(frozen=True)
class Search:
    """What a search gave: the exact mask, the ticket around it, and how it was found."""

    mask: Mask
    ticket: Ticket
    find: Find


class MethodError(ValueError):
    """A method cannot be imported, raises, or breaks its contract; the text says which."""


class SearchTimeout(Exception):
    """A search takes longer than it may; the text says by how much."""


def find(spec: Spec, net: nn.Module, task: Task) -> Find:
    """Let the spec's method find its ticket on a copy of `net`, in this process.

    Raises MethodError for what is the method's own fault; a loss that is not finite, bad input,
    and want of memory or of disk are raised as they are.
    """
    own = copy.deepcopy(net)
    with attributing_errors(spec.method.name):
        finder: Callable[..., object] = get(spec.method.name)
        clock = time.perf_counter()
        with preserving_global_state(derive(spec.seed, "search", spec.method.name), task.device):
            found = finder(own, task, spec.density, **spec.method.options)
        seconds = time.perf_counter() - clock
        ticket = as_ticket(found)  # type: ignore[arg-type]  # a stranger's word, see `settle`
    return Find(ticket, task.cost, seconds)


def to_mask(spec: Spec, net: nn.Module, found: Find, steps: int, device: torch.device) -> Search:
    """Hold a find to what was asked for, and apply the spec's control.

    `net` is at initialization, and `steps` is where its schedule ends. Raises MethodError, and
    UserError for a control that shows nothing.
    """
    ticket = found.ticket
    with attributing_errors(spec.method.name):
        if not 0 <= ticket.start <= steps:
            raise ValueError(f"the ticket starts at step {ticket.start}, not in 0 to {steps}")
        own_mask = _there(select(ticket.mask, net, spec.density), device)
    _check_weights(net, ticket.weights)
    mask = own_mask
    if spec.control == "invert":
        mask = _there(select(ticket.mask, net, spec.density, invert=True), device)
    elif spec.control == "shuffle":
        mask = shuffle(mask, spec.seed)
    elif spec.control == "reinit":
        ticket = replace(ticket, weights=None, start=0, finetune=False)
    _refuse_dead_places(spec, ticket, own_mask, mask)
    return Search(mask, ticket, found)


@contextmanager
def attributing_errors(method: str) -> Iterator[None]:
    """Raise as MethodError what no other than the method is to blame for."""
    try:
        yield
    except (ImportError, SyntaxError) as error:
        raise MethodError(f"it cannot be imported: {in_words(error)}") from error
    except (UserError, Diverged, MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except (Exception, SystemExit) as error:  # a method that wants to leave has failed
        words = in_words(error)
        if "can't allocate memory" in words or "CUDA error" in words:
            raise
        raise MethodError(words) from error


def _there(mask: Mask, device: torch.device) -> Mask:
    return {name: kept.to(device) for name, kept in mask.items()}


def _refuse_dead_places(spec: Spec, ticket: Ticket, own: Mask, mask: Mask) -> None:
    """A ticket of trained weights has zeros where it was pruned: a mask moved there shows nothing.

    Raises UserError.
    """
    weights = ticket.weights or {}
    for name in own.keys() & weights.keys():
        moved = mask[name] & ~own[name]
        if bool((weights[name].to(moved.device)[moved] == 0).any()):
            raise UserError(
                f"control {spec.control} shows nothing for {spec.method}: its ticket's weights are "
                "0 outside its own mask; use reinit, or a method whose weights are not trained"
            )


@contextmanager
def preserving_global_state(seed: int, device: torch.device) -> Iterator[None]:
    """Global state is afterwards what it was, and randomness that ought not be used is seeded."""
    python, numpy = random.getstate(), np.random.get_state()
    threads, number, grad = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
            if device.type == "cuda":  # the clock is to see work that is still queued
                torch.cuda.synchronize(device)
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_num_threads(threads)
        torch.set_default_dtype(number)
        torch.set_grad_enabled(grad)


def load_weights(net: nn.Module, weights: Weights | None) -> None:
    """Replace entries of the network's state by a ticket's weights, in place.

    Raises MethodError for a name or a shape that the network does not have.
    """
    _check_weights(net, weights)
    state = net.state_dict()
    with torch.no_grad():
        for name, tensor in (weights or {}).items():
            state[name].copy_(tensor)


def _check_weights(net: nn.Module, weights: Weights | None) -> None:
    state = net.state_dict()
    for name, tensor in (weights or {}).items():
        if name not in state:
            raise MethodError(f"the ticket has weights for {name!r:.80}, which the network has not")
        if tensor.shape != state[name].shape:
            have, need = tuple(tensor.shape), tuple(state[name].shape)
            raise MethodError(f"the ticket's {name} has shape {have}, needed {need}")

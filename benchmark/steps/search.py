"""The search for a ticket: run the method, validate its result, apply the run's control."""

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.blame import attributing_errors
from paibench.benchmark.steps.passed import Passed
from paibench.methods.core.mask import Mask, Weights
from paibench.methods.core.mask_bits import PackedMask
from paibench.methods.core.mask_file import pack
from paibench.methods.core.random_streams import derive, generator
from paibench.methods.core.registry import UserError, get
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import (
    MOST_NOTES,
    Ticket,
    as_ticket,
    check_ticket,
    check_weights,
    count_ties,
    select,
)
from paibench.methods.training.services import Cost


def shuffle(mask: Mask, seed: int) -> Mask:
    """Return the mask with its entries permuted at random within each layer."""
    rng = generator(seed, "shuffle")
    shuffled = {}
    for name, layer in mask.items():
        # drawn on the CPU, so that the permutation is the same on every device
        order = torch.randperm(layer.numel(), generator=rng).to(layer.device)
        shuffled[name] = layer.reshape(-1)[order].view(layer.shape)
    return shuffled


def reinit_seed(seed: int) -> int:
    """Return the seed of the fresh weights for a run with this seed."""
    # the seeds of specs are below 2**31 too
    return derive(seed, "reinit") % 2**31


@dataclass(frozen=True)
class SearchResult:
    """The ticket of a method, what the search cost, and the exact mask once it is validated."""

    ticket: Ticket
    cost: Cost
    seconds: float
    peak_mb: float = 0.0
    """Peak memory of the sandbox in MiB; 0 without one."""
    isolation: str | None = None
    """What separated the method from the harness, in words; None for the suite's own methods."""
    mask: Mask = field(default_factory=dict)
    """Set by `to_mask`, after the control of the run was applied."""
    ties: int | None = None
    """Set by `to_mask`: the weights at the threshold among which a lot decided."""

    @cached_property
    def packed(self) -> PackedMask:
        """The mask as its file, digest and counts, which are computed once."""
        return pack(self.mask)


class SearchTimeout(Exception):
    """A search takes longer than its limit; the text says by how much."""


def find(spec: Spec, net: nn.Module, task: Task) -> SearchResult:
    """Run the spec's method on a copy of `net`, in this process.

    Raises MethodError for the method's own faults. Divergence, bad input, and a lack of memory or
    disk space are raised as they are.
    """
    own_copy = copy.deepcopy(net)
    passed = Passed(own_copy)
    with attributing_errors(spec, "methods"):
        finder: Callable[..., object] = get(spec.method.name)
        clock = time.perf_counter()
        with preserving_global_state(derive(spec.seed, "search", spec.method.name), task.device):
            result = finder(own_copy, task, spec.density, **spec.method.options)
        seconds = time.perf_counter() - clock + task.seconds_elsewhere
        # what a method may return is decided here, before a sandbox packs it for the harness
        ticket = as_ticket(result)
        check_ticket(ticket, net, task.steps)
    if note := passed.note(task.cost.forward, task.examples):
        ticket = replace(ticket, notes=(*ticket.notes[: MOST_NOTES - 1], note))
    return SearchResult(ticket, task.cost, seconds)


def to_mask(
    spec: Spec, net: nn.Module, result: SearchResult, steps: int, device: torch.device
) -> SearchResult:
    """Validate a result, compute its exact mask, and apply the spec's control.

    `net` is at initialization; `steps` is the length of its training schedule. Raises MethodError,
    and UserError for a control that would show nothing.
    """
    with attributing_errors(spec, "methods"):
        # once more, because a sandbox may send anything
        ticket = as_ticket(result.ticket)
        check_ticket(ticket, net, steps)
        selected = select(ticket.mask, net, spec.density, seed=spec.seed)
    own_mask = _to_device(selected, device)
    mask = own_mask
    if spec.control == "invert":
        selected = select(ticket.mask, net, spec.density, invert=True, seed=spec.seed)
        mask = _to_device(selected, device)
    elif spec.control == "shuffle":
        mask = shuffle(mask, spec.seed)
    elif spec.control == "reinit":
        # fresh weights are untrained, so they enter the schedule at its first step
        ticket = replace(ticket, weights=None, start=0, finetune=False)
    _refuse_kept_zeros(spec, ticket, own_mask, mask)
    ties = count_ties(ticket.mask, selected)
    return replace(result, ticket=ticket, mask=mask, ties=ties)


def _to_device(mask: Mask, device: torch.device) -> Mask:
    return {name: layer.to(device) for name, layer in mask.items()}


def _refuse_kept_zeros(spec: Spec, ticket: Ticket, own: Mask, mask: Mask) -> None:
    """Raise UserError if the control keeps weights that the ticket has set to 0.

    A ticket of trained weights is 0 outside its own mask, so a mask that a control moved there
    would keep dead weights and show nothing about the method.
    """
    weights = ticket.weights or {}
    for name in own.keys() & weights.keys():
        added = mask[name] & ~own[name]
        if bool((weights[name].to(added.device)[added] == 0).any()):
            raise UserError(
                f"control {spec.control} shows nothing for {spec.method}: its ticket's weights are "
                "0 outside its own mask; use reinit, or a method whose weights are not trained"
            )


@contextmanager
def preserving_global_state(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators in this block, and restore all global state afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    threads, dtype, grad = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            # numpy accepts seeds of 32 bits only
            np.random.seed(seed % 2**32)
            yield
            if device.type == "cuda":  # the clock must include work that is still queued
                torch.cuda.synchronize(device)
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


def load_weights(net: nn.Module, weights: Weights | None) -> None:
    """Copy a ticket's weights into the network's state, in place.

    Raises ValueError for a name or a shape that the network does not have.
    """
    check_weights(weights, net)
    state = net.state_dict()
    with torch.no_grad():
        for name, tensor in (weights or {}).items():
            state[name].copy_(tensor)

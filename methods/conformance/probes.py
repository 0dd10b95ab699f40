"""Probes of a running search: examples it passes, generators it draws from, globals it changes."""

import os
import random
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from paibench.methods.conformance.networks import SENTINEL
from paibench.methods.conformance.report import CaseFailed


@dataclass
class Passed:
    """The examples that passed forward and backward through a network and its copies."""

    forward: int = 0
    backward: int = 0


@contextmanager
def count_examples(net: nn.Module) -> Iterator[Passed]:
    """Count the examples that pass through `net` and its copies; other inputs do not count."""
    passed = Passed()

    def after_forward(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        count = _examples(inputs)
        passed.forward += count

        def after_backward(_: Tensor) -> None:
            passed.backward += count

        if count and isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(after_backward)  # type: ignore[no-untyped-call]

    # a deep copy has the hooks of its original
    handle = net.register_forward_hook(after_forward)
    try:
        yield passed
    finally:
        handle.remove()


def _examples(inputs: tuple[Any, ...]) -> int:
    if not inputs or not isinstance(inputs[0], Tensor) or inputs[0].dim() != 4:
        return 0
    # a finder may also pass ones or noise, which are no examples and have no sentinel
    return int((inputs[0][:, 0, 0, 0] == SENTINEL).sum())


class RecordGenerators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the initial seeds of all generators that operations draw from."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seeds: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Record the generators of an operation, and run it."""
        options = dict(kwargs or {})
        # torch gives this tag to all operations that draw random numbers
        if torch.Tag.nondeterministic_seeded in func.tags:
            for each in (*args, *options.values()):
                if isinstance(each, torch.Generator):
                    # a generator has the same initial seed whatever it has drawn since
                    self.seeds.add(each.initial_seed())
        return func(*args, **options)


def global_state() -> dict[str, Any]:
    """Return the settings of the process that a search must not change, by description."""
    hooks = torch.nn.modules.module
    return {
        "the hooks of all modules": (
            len(hooks._global_forward_hooks),
            len(hooks._global_forward_pre_hooks),
            len(hooks._global_backward_hooks),
        ),
        "the default device": torch.get_default_device(),
        "the number of running Python threads": threading.active_count(),
        "the working directory": os.getcwd(),
        "the environment": dict(os.environ),
        "the import path": list(sys.path),
        "the number of torch threads": torch.get_num_threads(),
        "the default dtype": torch.get_default_dtype(),
        "the grad mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
    }


@contextmanager
def unchanged_globals() -> Iterator[None]:
    """Raise CaseFailed if the body changes a global setting or draws from a global generator."""
    before = global_state()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
        for what, current in global_state().items():
            if current != before[what]:
                expected = f"{what} unchanged{_briefly(before[what])}"
                raise CaseFailed(expected, f"another{_briefly(current)}")
        drew = {
            "torch's": not torch.equal(torch.get_rng_state(), states[0]),
            "Python's": random.getstate() != states[1],
            "NumPy's": not _equal_states(np.random.get_state(), states[2]),
        }
        for whose, changed in drew.items():
            if changed:
                actual = f"draws from {whose} global generator; draw from task.generator"
                raise CaseFailed("the global random state unchanged", actual)
    finally:
        # restored after a failure as well, so that other cases start from the same state
        restore(before)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _briefly(value: object) -> str:
    return "" if isinstance(value, dict | list) else f": {value}"


def restore(state: Mapping[str, Any]) -> None:
    """Restore the settings of the process; hooks and threads cannot be."""
    torch.set_num_threads(state["the number of torch threads"])
    torch.set_default_dtype(state["the default dtype"])
    torch.set_grad_enabled(state["the grad mode"])
    torch.use_deterministic_algorithms(state["deterministic algorithms"])
    torch.autograd.set_detect_anomaly(state["anomaly detection"])
    os.chdir(state["the working directory"])
    os.environ.clear()
    os.environ.update(state["the environment"])
    sys.path[:] = state["the import path"]
    torch.set_default_device(state["the default device"])


def _equal_states(one: Any, other: Any) -> bool:
    # NumPy's state holds an array, which == compares entry by entry
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

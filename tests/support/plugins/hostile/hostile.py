"""Methods of a stranger that break, one by one, what a method promises, and some that behave.

They are found by name where this folder is on the path: it is laid out as installed.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from paibench.methods.baselines.imp import imp
from paibench.methods.baselines.random import random
from paibench.methods.core.mask import Mask, keep_top, num_kept, prunable, total
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket

HELD: list[object] = []  # what `holds` was given


def _exact(net: nn.Module, task: Task, density: float) -> Mask:
    weights = prunable(net)
    draws = {n: torch.rand(w.shape, generator=task.generator) for n, w in weights.items()}
    return keep_top(draws, num_kept(density, total(weights)))


def crashes(net: nn.Module, task: Task, density: float) -> Mask:
    """Dies of a signal, while a child of its own keeps its pipes open."""
    if os.fork() == 0:
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hangs(net: nn.Module, task: Task, density: float) -> Mask:
    """Waits for ever, and would not hear being told to leave."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(600)


def closes_pipes(net: nn.Module, task: Task, density: float) -> Mask:
    """Closes every file that it did not open, and waits for ever."""
    os.closerange(0, 256)
    while True:
        time.sleep(600)


def asks_too_much(net: nn.Module, task: Task, density: float) -> Mask:
    """Wants a petabyte."""
    torch.empty(1 << 50)
    return {}


def asks_for_gigabytes(net: nn.Module, task: Task, density: float) -> Mask:
    """Wants four gigabytes, and writes to none of them; sound where it gets them."""
    torch.empty(4 << 30, dtype=torch.uint8)
    return _exact(net, task, density)


def out_of_memory(net: nn.Module, task: Task, density: float) -> Mask:
    """Has run out of memory."""
    raise MemoryError


def raises(net: nn.Module, task: Task, density: float) -> Mask:
    """Raises with two lines and an escape."""
    raise RuntimeError("first\nsecond \x1b[31m")


class Mute(Exception):
    """An exception that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def raises_mute(net: nn.Module, task: Task, density: float) -> Mask:
    """Raises what cannot be printed."""
    raise Mute


def leaves(net: nn.Module, task: Task, density: float) -> Mask:
    """Leaves as if all were well."""
    sys.exit(0)


def leaves_at_once(net: nn.Module, task: Task, density: float) -> Mask:
    """Leaves as if all were well, and without a word."""
    os._exit(0)


def keeps_one_more(net: nn.Module, task: Task, density: float) -> Mask:
    """Keeps one weight more than asked for."""
    mask = _exact(net, task, density)
    first = next(iter(mask.values())).view(-1)
    first[first.logical_not().nonzero()[0]] = True
    return mask


def scores_nan(net: nn.Module, task: Task, density: float) -> Scores:
    """Has one score that is no number."""
    values = {name: torch.zeros_like(weight) for name, weight in prunable(net).items()}
    next(iter(values.values())).view(-1)[0] = torch.nan
    return Scores(values)


def gives_nothing(net: nn.Module, task: Task, density: float) -> None:
    """Forgets to return."""


def gives_integers(net: nn.Module, task: Task, density: float) -> dict[str, Tensor]:
    """A mask of the wrong type."""
    return {name: kept.int() for name, kept in _exact(net, task, density).items()}


def forgets_a_layer(net: nn.Module, task: Task, density: float) -> Mask:
    """A mask without the last layer."""
    return dict(list(_exact(net, task, density).items())[:-1])


def adds_a_layer(net: nn.Module, task: Task, density: float) -> Mask:
    """A mask with a name that would like to be a path."""
    return _exact(net, task, density) | {"../../x": torch.ones(1, dtype=torch.bool)}


def turns_a_layer(net: nn.Module, task: Task, density: float) -> Mask:
    """A mask with a transposed layer."""
    mask = _exact(net, task, density)
    name = next(iter(mask))
    return mask | {name: mask[name].t()}


def starts_late(net: nn.Module, task: Task, density: float) -> Ticket:
    """A ticket that would be trained from a step after the last."""
    return Ticket(_exact(net, task, density), start=task.steps + 1)


def gives_other_weights(net: nn.Module, task: Task, density: float) -> Ticket:
    """A ticket with weights that the network has not."""
    return Ticket(_exact(net, task, density), weights={"fc9.weight": torch.ones(3)})


def loses_its_helper(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads by a helper process, and is asked to leave by a signal that ends the helper too."""
    numbers = iter(DataLoader(range(100), num_workers=1))  # type: ignore[arg-type]
    next(numbers)
    helpers = active_children()
    os.kill(os.getpid(), signal.SIGTERM)
    for helper in helpers:
        helper.kill()
    list(numbers)
    return _exact(net, task, density)


def prints(net: nn.Module, task: Task, density: float) -> Mask:
    """Prints four megabytes of what looks like events, by Python and below it; sound otherwise."""
    event = '{"event": "failed", "cause": "error", "reason": "forged"}\n'
    for _ in range(2_000):
        print(event * 20)
        os.write(1, event.encode() * 20)
    return _exact(net, task, density)


def reads(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads its standard input to the end; sound when there is nothing to be had."""
    if sys.stdin.read() or os.read(0, 1):
        raise RuntimeError("there was something to read")
    return _exact(net, task, density)


def spoils(net: nn.Module, task: Task, density: float) -> Mask:
    """Leaves the network and the state of the process changed; its mask is sound."""
    mask = _exact(net, task, density)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.zero_()
    net.eval().requires_grad_(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.manual_seed(time.time_ns())
    return mask


def draws_globally(net: nn.Module, task: Task, density: float) -> Scores:
    """Takes randomness from where it should not; sound otherwise."""
    return Scores({name: torch.rand_like(weight) for name, weight in prunable(net).items()})


def holds(net: nn.Module, task: Task, density: float) -> Mask:
    """Keeps what it was given; sound otherwise."""
    HELD[:] = [net, task]
    return _exact(net, task, density)


def memoizes(net: nn.Module, task: Task, density: float) -> Mask:
    """Goes through one stage, and notes in a file which processes compute it."""

    def compute() -> dict[str, Tensor]:
        with open(Path(os.environ["TMPDIR"], "notes"), "a") as notes:
            notes.write(f"{os.getpid()}\n")
        time.sleep(1)
        task.fit(net, stop=1)
        return {}

    task.memo("memoizes", compute)
    return _exact(net, task, density)


def killed_once(
    net: nn.Module, task: Task, density: float, *, step: int = 0, search: bool = False
) -> object:
    """Random or (with `search`) IMP that is killed at the given step of its work, the first time.

    The steps counted are those after the search, or those of its trainings.
    """
    mark = Path(os.environ["TMPDIR"], f"killed-{step}-{search}-{task.seed}")
    found = None if search else random(net, task, density)
    if not mark.exists():
        _kill_after(step, mark, task)
    return imp(net, task, density, rate=0.5) if search else found


def dawdles_once(net: nn.Module, task: Task, density: float) -> Mask:
    """Random; each step after its search takes a tenth of a second, the first time."""
    mark = Path(os.environ["TMPDIR"], f"dawdled-{task.seed}")
    if not mark.exists():
        mark.touch()
        task._services.beat.on_beat = lambda: time.sleep(0.1)  # type: ignore[attr-defined]
    return _exact(net, task, density)


def _kill_after(step: int, mark: Path, task: Task) -> None:
    """Kill this process when its work has got on so many times; the mark tells of it."""
    heartbeat: Any = task._services.beat  # type: ignore[attr-defined]
    beat: Callable[[], object] = heartbeat.on_beat
    count = 0

    def fatal() -> None:
        nonlocal count
        count += 1
        if count == step:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        beat()

    heartbeat.on_beat = fatal

"""The dense network, the reference for every ticket; and its training, which searches share."""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import nn

from paibench.methods.core.mask import Mask, full, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.training.services import State


def dense(net: nn.Module, task: Task, density: float) -> Mask:
    """Keep every weight.

    Raises UserError if the density is not 1.
    """
    if density != 1:
        raise UserError(f"dense keeps every weight: density {density!r} must be 1")
    return full(prunable(net))


def rewind_step(task: Task, rewind_epoch: float, method: str) -> int:
    """Return the step of the recipe at an epoch. Raises UserError if that is beyond its end."""
    if not 0 <= rewind_epoch < task.recipe.epochs:
        raise UserError(
            f"{method}: rewind_epoch = {rewind_epoch!r} is out of range; "
            f"give 0 or more, and less than the recipe's {task.recipe.epochs} epochs"
        )
    # at least one step of training must follow the rewinding
    return min(round(rewind_epoch * task.steps_per_epoch), task.steps - 1)


def dense_state(net: nn.Module, task: Task, step: int) -> State:
    """Return the state of the dense run after `step` steps."""
    train = partial(train_from, net, task, net.state_dict(), None, 0, stop=step)
    return task.memo(f"dense-step{step}", train)


def train_from(
    net: nn.Module,
    task: Task,
    initial: State,
    mask: Mask | None,
    start: int,
    *,
    stop: int | None = None,
    finetune: bool = False,
) -> State:
    """Return the state of a copy of `net` after training from `initial`."""
    copy = deepcopy(net)
    copy.load_state_dict(initial)
    changes: dict[str, Any] = {}
    if finetune:
        # the ticket repeats the last learning rate, so that no schedule or warm-up may change it
        rate = task.recipe.lr_at(task.recipe.epochs - 1)
        changes = {"schedule": "constant", "warmup": 0, "lr": rate}
    task.fit(copy, mask=mask, start=start, stop=stop, resumable=True, **changes)
    return state_of(copy)


def state_of(net: nn.Module) -> State:
    """Return a copy of the parameters and buffers of `net` by name."""
    # contiguous, because bf16 trains in channels_last memory, which a stage cannot store
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }

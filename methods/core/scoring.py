"""Shared by finders that differentiate the loss: a copy of the network, and losses of batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task


def scoring_copy(net: nn.Module, mode: Literal["train", "eval"]) -> nn.Module:
    """Return a copy of `net` whose output depends on its input only.

    With `train` its batch norms use the statistics of the batch, with `eval` the running ones
    (mean 0 and variance 1 at initialization). Dropout is off in both modes, so that a second
    pass sees the same network as the first.
    """
    copy = deepcopy(net).eval()
    for module in copy.modules():
        if isinstance(module, _BatchNorm):
            module.train(mode == "train")
    # a network may come with frozen weights, which are scored too
    for weight in prunable(copy).values():
        weight.requires_grad_()
    return copy


def losses(
    net: nn.Module, task: Task, *, per_class: int, batch: int, temperature: float = 1.0
) -> Iterator[tuple[Tensor, int]]:
    """Yield the mean loss of each scoring batch and its number of examples.

    The data are the first `per_class` examples of each class, `batch` at a time, not augmented
    and the same at every call; logits are divided by `temperature`. Raises UserError if one of
    these numbers is out of range, or if a batch is too small for the network's batch norms.
    """
    for name, value in {"per_class": per_class, "batch": batch}.items():
        if value < 1:
            raise UserError(f"{name} = {value!r} is out of range; give 1 or more")
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature = {temperature!r} is out of range; give a positive number")
    for inputs, labels in task.batches(per_class=per_class, size=batch):
        yield batch_loss(net, task, inputs, labels, temperature), len(labels)


def batch_loss(
    net: Callable[[Tensor], Tensor],
    task: Task,
    inputs: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Return the mean loss of a batch. Raises UserError if it is too small for batch norms."""
    with refusing_small_batches():
        logits = net(inputs)
    return task.loss(logits / temperature, labels)


@contextmanager
def refusing_small_batches(otherwise: str = ", or with mode=eval") -> Iterator[None]:
    """Raise UserError if batch norms are given a single example to take statistics of.

    `otherwise` ends the message, for methods that have another way out than larger batches.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "batch norms cannot use the statistics of 1 example; score on larger "
            f"batches{otherwise}"
        ) from error

"""The dense network: the reference for every ticket."""

from torch import nn

from paibench.methods.core.mask import Mask, full, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task


def dense(net: nn.Module, task: Task, density: float) -> Mask:
    """Keep every weight.

    Raises UserError if the density is not 1.
    """
    if density != 1:
        raise UserError(f"dense keeps every weight: density {density!r} must be 1")
    return full(prunable(net))

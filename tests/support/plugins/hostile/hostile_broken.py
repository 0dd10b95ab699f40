"""A stranger's module that cannot be imported here."""

import no_such_library  # type: ignore[import-not-found]  # noqa: F401
from torch import nn

from paibench.methods.core.mask import Mask
from paibench.methods.core.task import Task


def cannot_be_imported(net: nn.Module, task: Task, density: float) -> Mask:
    """Never gets that far."""
    return {}

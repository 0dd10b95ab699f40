"""Mask finders: one method, one file, one paper; and all that an author of a method needs.

    from paibench.methods import Scores, Task, prunable, scoring_copy

`get` and `names` work without torch; the other names of `paibench.methods.api` import it on first
use, so that the command line starts quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paibench.methods.core.registry import UserError as UserError
from paibench.methods.core.registry import get as get
from paibench.methods.core.registry import names as names

if TYPE_CHECKING:
    from paibench.methods.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        # Tools ask modules for private attributes; that must not import torch.
        if not name.startswith("_") and hasattr(api := import_module("paibench.methods.api"), name):
            return getattr(api, name)
        raise AttributeError(f"module 'paibench.methods' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *vars(import_module("paibench.methods.api"))})

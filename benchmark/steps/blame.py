"""Whose fault an error is: the method's, that of another plugin, or neither.

The code that raised an error decides: the innermost frame of the traceback that lies in the code of
a plugin of the run. A method that is called by the harness may call a network of somebody else.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb

import torch

from paibench.benchmark.provenance import code_path, display_name
from paibench.benchmark.spec import Spec
from paibench.methods.core.registry import SINGULAR, Kind, UserError, find, is_own
from paibench.methods.core.signature import source
from paibench.methods.core.text import in_words
from paibench.methods.training.loop import Diverged
from paibench.methods.training.services import Interrupted

_HARNESS = (
    "paibench.benchmark.store",
    "paibench.benchmark.execution",
    "paibench.benchmark.sandbox",
)
"""The parts of the harness that a plugin may call, and that may fail for reasons of their own."""


class MethodError(ValueError):
    """A method cannot be imported, raises, or breaks its contract; the text says which."""


class PluginError(Exception):
    """The same of a model, a data set or a recipe; the text begins with its name."""


def fault(kind: Kind, name: str, reason: str) -> PluginError | UserError:
    """Return the error of a model, data set or recipe: a PluginError for one of a third party."""
    with suppress(UserError):  # of an unknown name
        if not name.startswith("timm:") and not is_own(name, kind):
            return PluginError(f"{display_name(name, kind)}: {reason}")
    return UserError(f"{SINGULAR[kind]} {name}: {reason}")


@contextmanager
def attributing_errors(spec: Spec, kind: Kind | None = None) -> Iterator[None]:
    """Raise MethodError or PluginError for an error that a plugin of the run has caused.

    `kind` is the plugin that runs in this block: it is blamed unless the code of another one raised
    the error. Divergence, bad input, a lack of memory and errors of the store are raised as they
    are.
    """
    try:
        yield
    except (UserError, MethodError, PluginError, Interrupted, MemoryError, torch.OutOfMemoryError):
        raise
    except Diverged as error:
        if type(error.step) is int and error.step >= 0:
            raise
        raise MethodError(f"Diverged: {error.step!r:.80} is no step") from error
    except BaseException as error:  # a method that exits has failed
        words = in_words(error)
        culprit = _culprit(error, spec, kind)
        if culprit is None or _is_of_the_system(error, words):
            raise
        if culprit == "methods" and isinstance(error, OSError) and _is_own("methods", spec):
            raise  # our methods touch no files, so a service that they called has failed
        if isinstance(error, ImportError | SyntaxError):
            words = f"it cannot be imported: {words}"
        if culprit == "methods":
            raise MethodError(words) from error
        if kind == "methods":
            words += f" (in the search of {spec.method.name})"
        raise PluginError(f"{display_name(_names(spec)[culprit], culprit)}: {words}") from error


def _is_of_the_system(error: BaseException, words: str) -> bool:
    if isinstance(error, KeyboardInterrupt):
        # the handler of Python itself leaves no frame: then Ctrl-C looks like an error of a method
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # torch has no exception type of its own for a lack of CPU memory
    return "can't allocate memory" in words or "CUDA error" in words


def _culprit(error: BaseException, spec: Spec, kind: Kind | None) -> Kind | None:
    """Return the kind of the plugin whose code raised an error; None for the harness."""
    files, folders = _code(spec)
    # the first two frames are those of the `with` statement
    for frame, _ in reversed(list(walk_tb(error.__traceback__))[2:]):
        if frame.f_globals.get("__name__", "").startswith(_HARNESS):
            return None
        path = Path(frame.f_code.co_filename)
        # one package may provide several plugins of the run, and their modules tell them apart
        if path in files:
            return files[path]
        owners = {owner for folder, owner in folders if folder in path.parents}
        if len(owners) == 1:
            return owners.pop()
    return kind if kind and (kind == "methods" or not _is_own(kind, spec)) else None


def _code(spec: Spec) -> tuple[dict[Path, Kind], list[tuple[Path, Kind]]]:
    """Return the modules and the packages of the plugins of a run, each with its kind."""
    files: dict[Path, Kind] = {}
    folders: list[tuple[Path, Kind]] = []
    for kind, name in _names(spec).items():
        if kind == "models" and name.startswith("timm:"):
            timm = find_spec("timm")
            # a stranger's method may call it in a wrong way, but ours do not
            if timm and timm.origin and _is_own("methods", spec):
                folders.append((Path(timm.origin).parent, kind))
        elif not _is_own(kind, spec):
            entry = find(name, kind)
            if path := source(entry):
                files[path] = kind
            if package := code_path(name, kind):
                folders.append((package, kind))
    return files, folders


def _is_own(kind: Kind, spec: Spec) -> bool:
    """Return whether a part of a run belongs to the suite, or is not a plugin at all."""
    with suppress(UserError):
        return is_own(_names(spec)[kind], kind)
    return True


def _names(spec: Spec) -> dict[Kind, str]:
    return {
        "datasets": spec.dataset.name,
        "models": spec.model.name,
        "recipes": spec.recipe.name,
        "methods": spec.method.name,
    }

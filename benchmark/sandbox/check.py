"""One case more than the conformance suite has: a finder in the harness, behind its walls."""

import time
from functools import partial

from paibench.benchmark.data.dataset import load
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.sandbox.parent import Aids, search_in_sandbox
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.steps.device import setup_device
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.search import MethodError, Search, SearchTimeout, to_mask
from paibench.methods.conformance.report import Result
from paibench.methods.core.mask_file import digest
from paibench.methods.training.loop import Diverged, steps_per_epoch


def check_in_sandbox(method: str, seconds: float) -> Result:
    """Let a method search twice on the embedded digits, each time in a process of its own.

    The masks are to be equal. What the walls were is said as what came.
    """
    started = time.perf_counter()
    ended = partial(Result, "sandbox")
    try:
        first, second = (_searched(method, RunSettings(search_seconds=seconds)) for _ in range(2))
    except (MethodError, SearchTimeout, MemoryError, Diverged) as error:
        took = round(time.perf_counter() - started, 3)
        return ended("failed", "a search that comes to a mask", " ".join(str(error).split()), took)
    took = round(time.perf_counter() - started, 3)
    if digest(first.mask) != digest(second.mask):
        return ended("failed", "the same mask in two processes", "two masks", took)
    return ended("passed", came=f"behind: {first.find.isolation}", seconds=took)


def _searched(method: str, settings: RunSettings) -> Search:
    density = 1.0 if method == "dense" else 0.1
    spec = Spec.of(
        dataset="digits", model="lenet-300-100", recipe="smoke", method=method, density=density
    )
    device = setup_device(settings.device, settings.threads)
    data = load(spec.dataset.name, spec.dataset.options, None, device=device, seed=spec.seed)
    net = make_network(spec, data, spec.seed).to(device)
    recipe = recipe_of(spec.recipe)
    steps = recipe.epochs * steps_per_epoch(len(data.train), recipe.batch)
    return to_mask(spec, net, search_in_sandbox(spec, net, data, settings, Aids()), steps, device)

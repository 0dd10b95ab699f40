"""A conformance case for the harness: the finder searches in its sandbox."""

import time
from functools import partial

from paibench.benchmark.data.dataset import load
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.sandbox.parent import search_in_sandbox
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.steps.blame import MethodError
from paibench.benchmark.steps.device import setup_device
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.search import SearchResult, SearchTimeout, to_mask
from paibench.methods.conformance.report import Result
from paibench.methods.core.mask_file import digest
from paibench.methods.core.text import one_line
from paibench.methods.training.loop import Diverged, steps_per_epoch
from paibench.methods.training.services import Services


def check_in_sandbox(method: str, seconds: float) -> Result:
    """Search twice on the embedded digits, each time in a new sandbox; the masks must be equal."""
    started = time.perf_counter()
    result = partial(Result, "sandbox")
    settings = RunSettings(search_seconds=seconds)
    try:
        first, second = (_search(method, settings) for _ in range(2))
    except (MethodError, SearchTimeout, MemoryError, Diverged) as error:
        spent = round(time.perf_counter() - started, 3)
        return result("failed", "a search that returns a mask", one_line(str(error)), spent)
    spent = round(time.perf_counter() - started, 3)
    if digest(first.mask) != digest(second.mask):
        return result("failed", "the same mask in two processes", "two masks", spent)
    return result("passed", actual=f"isolated by: {first.isolation}", seconds=spent)


def _search(method: str, settings: RunSettings) -> SearchResult:
    density = 1.0 if method == "dense" else 0.1
    spec = Spec.of(
        dataset="digits", model="lenet-300-100", recipe="smoke", method=method, density=density
    )
    device = setup_device(settings.device, settings.threads)
    data = load(spec.dataset.name, spec.dataset.options, None, device=device, seed=spec.seed)
    net = make_network(spec, data, spec.seed).to(device)
    recipe = recipe_of(spec.recipe)
    steps = recipe.epochs * steps_per_epoch(len(data.train), recipe.batch)
    result = search_in_sandbox(spec, net, data, settings, Services())
    return to_mask(spec, net, result, steps, device)

"""Runs whose searches go through the same stages; side by side, one would wait for the other."""

from paibench.benchmark.spec import Spec
from paibench.methods.registry import find
from paibench.methods.signature import describe

Lane = tuple[str, ...]


def lane(spec: Spec) -> Lane | None:
    """What the stages of a run's search depend on; None where the method keeps none.

    Runs of one lane differ in density and control alone.
    """
    if not describe(find(spec.method.name)).keeps_stages:
        return None
    named = (spec.method, spec.dataset, spec.model, spec.recipe)
    return (*map(str, named), spec.init, str(spec.seed))

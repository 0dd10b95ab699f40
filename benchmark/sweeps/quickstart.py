"""The sweep behind `paibench quickstart`: every method on the embedded digits."""

from collections.abc import Sequence
from typing import Any

from paibench.benchmark.sweeps.sweep import Sweep, expand

METHODS = (
    "random",
    "magnitude",
    "snip",
    "grasp",
    "synflow",
    "edge_popup",
    "zhou",
    "imp",
    "gem_miner",
)
DENSITIES = (0.5, 0.2, 0.05, 0.02)
SEEDS = (0, 1, 2)


def quickstart_sweep(methods: Sequence[str] | None = None) -> Sweep:
    """Those methods (by default all that come with the suite) and the dense reference."""
    common: dict[str, Any] = {
        "dataset": "digits",
        "model": "lenet-300-100",
        "recipe": "lite",
        "seed": list(SEEDS),
    }
    chosen = [name for name in methods or METHODS if name != "dense"]
    dense = {**common, "method": "dense", "density": 1.0}
    sparse = {**common, "method": chosen, "density": list(DENSITIES)}
    return expand({"name": "quickstart", "include": [dense, *([sparse] if chosen else [])]})

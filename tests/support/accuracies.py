"""Frames of runs with chosen accuracies, for tests of statistics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from paibench.leaderboard.frame.load import tabulate

GRID = (0.5, 0.1, 0.02)
ERK = "random(layers=erk)"
MANY = 10**9  # so many test examples that their choice adds no variance


def runs_of(accuracies: dict[tuple[str, float], list[float]], **fields: Any) -> pd.DataFrame:
    """Runs by method label and density, of seeds 0, 1, ... and 1,000 test examples."""
    usual: dict[str, Any] = {"dataset": "d", "model": "m", "recipe": "r", "init": "i"}
    usual |= {"control": "none", "evaluated_on": "test", "data_fingerprint": "f" * 64}
    usual |= {"status": "done", "test_examples": 1000}
    return tabulate(
        usual
        | {"method": label.partition("(")[0], "method_label": label, "density_asked": density}
        | {"seed": seed, "accuracy": accuracy}
        | fields
        for (label, density), values in accuracies.items()
        for seed, accuracy in enumerate(values)
    )


def normal(mean: float, n: int, seed: int) -> list[float]:
    """Accuracies around a mean, in whole examples of 1,000."""
    drawn = np.random.default_rng(seed).normal(mean, 0.02, n)
    return [float(value) for value in np.clip(np.round(drawn, 3), 0, 1)]


def board(
    means: dict[str, float], n: int = 6, seed: int = 0
) -> dict[tuple[str, float], list[float]]:
    return {
        (label, density): normal(mean - 0.05 * place, n, 100 * seed + 10 * row + place)
        for row, (label, mean) in enumerate(means.items())
        for place, density in enumerate(GRID)
    }


def tracks_of(
    cells: Sequence[tuple[str, float]], accuracies: NDArray[np.float64], examples: int = MANY
) -> pd.DataFrame:
    """Runs of many tracks, from accuracies by cell, seed and track; tracks are named 0, 1, ..."""
    _, n, count = accuracies.shape
    one = runs_of({cell: [0.5] * n for cell in cells}, test_examples=examples)
    found = one.loc[one.index.repeat(count)].reset_index(drop=True)
    names = np.tile(np.arange(count), len(one)).astype("str")
    return found.assign(dataset=names, accuracy=accuracies.ravel())

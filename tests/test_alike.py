"""Runs are alike in all that may change a result, and in nothing else."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.alike import ALIKE, parts, unlike
from paibench.leaderboard.frame import row_of, tabulate

RecordFactory = Callable[..., Record]
COMMIT, OTHER = "0123456789" * 4, "9876543210" * 4


def runs_of(*records: Record) -> pd.DataFrame:
    return tabulate(map(row_of, records))


@pytest.mark.parametrize(
    ("model", "first", "second", "said"),
    [
        ("m", {"host": "a"}, {"host": "b"}, ""),
        ("m", {"device": "cpu"}, {"device": "cuda"}, "device: cpu, cuda"),
        ("m", {"torch": "2.9"}, {"torch": "2.10"}, "torch: 2.10, 2.9"),
        ("m", {"cuda": "13.0"}, {}, "cuda: 13.0, none"),
        ("m", {"timm": "1"}, {"timm": "2"}, ""),
        ("timm:x", {"timm": "1"}, {"timm": "2"}, "timm: 1, 2"),
        ("m", {}, {"commit": COMMIT}, "paibench: 0.1.0, 0.1.0 at 01234567"),
        ("m", {"commit": COMMIT, "dirty": False}, {"commit": COMMIT}, ""),
        (
            "m",
            {"commit": COMMIT, "dirty": True},
            {"commit": OTHER, "dirty": False},
            "paibench: 0.1.0 at 01234567 with changes, 0.1.0 at 98765432",
        ),
        (
            "m",
            {"paibench": "1", "plugin_version": "1"},
            {"paibench": "2", "plugin_version": "2"},
            "paibench: 1, 2",
        ),
        ("m", {"plugin": "p"}, {"plugin": "q"}, "plugin: p 0.1.0, q 0.1.0"),
        (
            "m",
            {"threads": 1, "device": "a"},
            {"threads": 2, "device": "b"},
            "device: a, b; threads: 1, 2",
        ),
    ],
    ids=[
        "host", "device", "torch", "cuda", "timm-of-others", "timm", "no-commit", "same-commit",
        "dirty", "version-said-once", "plugin", "two",
    ],
)  # fmt: skip
def test_what_differs_is_said(
    record_factory: RecordFactory,
    model: str,
    first: dict[str, Any],
    second: dict[str, Any],
    said: str,
) -> None:
    """Each part by its name with all its values, once; what cannot change a result is silent."""
    runs = runs_of(
        *(record_factory(model=model, seed=s, environment=e) for s, e in enumerate([first, second]))
    )
    runs[ALIKE] = parts(runs)
    assert list(unlike(runs, ["model", "method"])) == [said]


def test_no_runs_have_no_parts() -> None:
    """An empty frame gives one with all columns."""
    assert list(parts(runs_of()).columns) == ALIKE

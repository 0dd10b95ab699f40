"""Lanes: which runs would wait for each other's stages."""

from typing import Any

import pytest

from paibench.benchmark.lanes import lane
from paibench.benchmark.spec import Spec

SPEC: dict[str, Any] = {
    "dataset": "digits",
    "model": "lenet-300-100",
    "recipe": "smoke",
    "method": "imp",
    "density": 0.5,
}


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"density": 0.1}, True),
        ({"control": "shuffle"}, True),
        ({"seed": 1}, False),
        ({"method": {"name": "imp", "rate": 0.5}}, False),
        ({"method": "zhou"}, False),
        ({"model": {"name": "lenet-300-100", "width": 0.5}}, False),
    ],
    ids=str,
)
def test_a_lane_is_one_search_at_several_densities(change: dict[str, Any], shared: bool) -> None:
    """Runs are of one lane when they differ in density or control alone."""
    assert (lane(Spec.of(**SPEC)) == lane(Spec.of(**(SPEC | change)))) is shared


def test_no_lane_without_stages() -> None:
    """A method that keeps no stages waits for nobody."""
    assert lane(Spec.of(**(SPEC | {"method": "snip"}))) is None

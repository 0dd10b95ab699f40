"""The sweep of `paibench quickstart`: methods, random floors, and the dense reference."""

import pytest

from paibench.benchmark.sweeps.sweep import quickstart
from paibench.leaderboard.stats.floors import FLOORS
from paibench.methods.core.registry import UserError, names

DENSITIES, SEEDS = 4, 3


def test_what_is_in_it() -> None:
    """Nine methods and the floor with quotas run at four densities, dense at one, three seeds."""
    sweep = quickstart()
    methods = {spec.method.name for spec in sweep.specs}
    rows = {str(spec.method) for spec in sweep.specs}
    assert methods < set(names())
    assert (len(methods), len(rows)) == (10, 11)
    assert set(FLOORS) < rows
    assert len(sweep.specs) == ((len(rows) - 1) * DENSITIES + 1) * SEEDS
    assert sweep.id == "779900fb91feb5b6ee3001b33d0b68624d4c09c3"


@pytest.mark.parametrize(
    ("chosen", "methods"),
    [(["snip"], {"snip", "dense"}), (["dense"], {"dense"}), (["snip", "dense"], {"snip", "dense"})],
    ids=["one", "dense", "both"],
)
def test_a_choice_of_methods(chosen: list[str], methods: set[str]) -> None:
    """Dense is always in it, once, also if it is the only choice."""
    sweep = quickstart(chosen)
    assert {spec.method.name for spec in sweep.specs} == methods
    assert sum(spec.method.name == "dense" for spec in sweep.specs) == SEEDS


def test_an_unknown_method() -> None:
    """The error for a misspelt method suggests the nearest one."""
    with pytest.raises(UserError, match="unknown method 'snipp'; did you mean snip?"):
        quickstart(["snipp"])


def test_it_needs_no_download() -> None:
    """All runs use the embedded digits."""
    assert {str(spec.dataset) for spec in quickstart().specs} == {"digits"}

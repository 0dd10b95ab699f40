"""The first sweep that anyone runs: every method that comes with the suite, and the reference."""

from pathlib import Path

import pytest

from paibench.benchmark.sweeps import sweep as sweeps
from paibench.benchmark.sweeps.quickstart import DENSITIES, METHODS, SEEDS, quickstart_sweep
from paibench.methods.core.registry import UserError, names


def test_every_method_of_the_suite_is_in_it() -> None:
    """Without a choice, all our methods run at all densities, and dense at one."""
    sweep = quickstart_sweep()
    assert {spec.method.name for spec in sweep.specs} == {*METHODS, "dense"}
    assert len(sweep.specs) == (len(METHODS) * len(DENSITIES) + 1) * len(SEEDS)
    assert {*METHODS, "dense"} <= set(names())


@pytest.mark.parametrize(
    ("chosen", "methods"),
    [(["snip"], {"snip", "dense"}), (["dense"], {"dense"}), (["snip", "dense"], {"snip", "dense"})],
    ids=["one", "dense", "both"],
)
def test_a_choice_of_methods(chosen: list[str], methods: set[str]) -> None:
    """Dense is always there, once, and alone when it is all that is asked for."""
    sweep = quickstart_sweep(chosen)
    assert {spec.method.name for spec in sweep.specs} == methods
    assert sum(spec.method.name == "dense" for spec in sweep.specs) == len(SEEDS)


def test_an_unknown_method() -> None:
    """A misspelt method is answered with the nearest before anything runs."""
    with pytest.raises(UserError, match="unknown method 'snipp'; did you mean snip?"):
        quickstart_sweep(["snipp"])


def test_it_needs_no_download() -> None:
    """Everything is on the embedded digits."""
    assert {str(spec.dataset) for spec in quickstart_sweep().specs} == {"digits"}


def test_it_is_a_file_as_well() -> None:
    """`sweeps/quickstart.toml` asks for the same runs, for who wants them on a cluster."""
    file = Path(__file__).parents[3] / "sweeps" / "quickstart.toml"
    assert sweeps.read(file).id == quickstart_sweep().id

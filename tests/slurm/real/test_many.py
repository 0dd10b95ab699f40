"""Thousands of short runs: few jobs, no run lost, little overhead."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, temporary_cluster
from configuration import Shape
from terminal import Terminal, local_records, stable

RUNS = 3_000


@pytest.fixture
def two_cores() -> Iterator[Cluster]:
    """A cluster of two nodes with one core each and the default limit on arrays."""
    with temporary_cluster(Shape(cpus=1, memory=4000, max_array_size=1001)) as cluster:
        yield cluster


def test_many_runs(two_cores: Cluster, tmp_path: Path) -> None:
    """The runs are packed into fewer than 100 jobs and take at most twice the time of the local
    pool."""
    terminal = Terminal(tmp_path, two_cores, {"OMP_NUM_THREADS": "1"})
    recipe = {"name": "smoke", "epochs": 1}
    terminal.sweep(method="random", seed=list(range(RUNS)), recipe=recipe)
    terminal.profile(cpus=1)
    begun = time.monotonic()
    facts = terminal.submit()
    handed_over = time.monotonic() - begun
    assert (facts["queued"], facts["jobs"] < 100) == (RUNS, True)
    terminal.wait_idle(600)
    there = time.monotonic() - begun
    specs = terminal.specs
    begun = time.monotonic()
    local = local_records(tmp_path / "local", specs)
    here = time.monotonic() - begun
    print(
        f"{RUNS} runs: {facts['jobs']} jobs, submitted in {handed_over:.1f} s, done in "
        f"{there:.0f} s; by the local pool in {here:.0f} s: {there / here:.2f} times as long"
    )
    assert stable(terminal.store) == local
    assert len(local) == RUNS
    assert set(terminal.attempts().values()) == {1}
    assert there < 2 * here

"""Distribution of runs over jobs."""

from typing import Any

import pytest
from fake_commands import small_runs

from paibench.benchmark.spec import Spec
from paibench.slurm.packing import JOBS_WITHOUT_SLOTS, MAX_JOBS, MIN_JOBS, bundles
from paibench.slurm.profile import Profile


def sizes(
    runs: list[Spec], seconds: float | None = None, slots: int | None = None, **keys: Any
) -> list[int]:
    """Return how many runs each job gets; no run is lost and the order is kept."""
    packed = bundles(runs, Profile(name="a", **keys), lambda _: seconds, slots)
    assert [spec for bundle in packed for spec in bundle] == runs
    return [len(bundle) for bundle in packed]


@pytest.mark.parametrize(
    ("count", "slots", "jobs"),
    [
        (1, 4, 1),
        (3, 4, 3),
        (3_000, 2, MIN_JOBS),
        (3_000, 20, 40),
        (3_000, 500, MAX_JOBS - 2),  # of 32 runs each
        (3_000, None, JOBS_WITHOUT_SLOTS),
        (JOBS_WITHOUT_SLOTS, None, JOBS_WITHOUT_SLOTS),
    ],
)
def test_without_estimates(count: int, slots: int | None, jobs: int) -> None:
    """There are two jobs for each slot of the cluster, within bounds."""
    assert len(sizes(small_runs(count), slots=slots)) == jobs


def test_runs_per_job() -> None:
    """`runs_per_job` decides, whatever the estimates are."""
    assert sizes(small_runs(10), seconds=1e6, runs_per_job=4) == [4, 4, 2]


@pytest.mark.parametrize(
    ("count", "seconds", "keys", "expected"),
    [
        (100, 1.0, {}, [100]),
        (200, 1.0, {}, [120, 80]),
        (100, 1.0, {"runs_at_a_time": 4, "cpus": 4}, [100]),
        (480, 60.0, {}, [10] * 48),
        (6, 5_000.0, {}, [1] * 6),
        (200, 100.0, {"time": 10}, [3] * 66 + [2]),
    ],
    ids=[
        "short",
        "minimum of a job",
        "side by side",
        "spread",
        "longer than the largest job",
        "limit",
    ],
)
def test_with_estimates(
    count: int, seconds: float, keys: dict[str, Any], expected: list[int]
) -> None:
    """A job has at least two minutes of work and at most half its time limit."""
    assert sizes(small_runs(count), seconds, **keys) == expected


def test_stage_groups_stay_together() -> None:
    """Runs of one stage group start a new job if they do not fit into the present one."""
    imp = {"name": "imp", "rate": 0.5}
    group = [run for n in (2, 4, 8) for run in small_runs(1, method=imp, density=1 / n)]
    packed = bundles(small_runs(2) + group, Profile(name="a", runs_per_job=4), lambda _: None)
    assert [len(bundle) for bundle in packed] == [2, 3]

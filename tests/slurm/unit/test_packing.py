"""Which runs go into one job."""

from typing import Any

import pytest

from paibench.benchmark.spec import Spec
from paibench.slurm.packing import ELSEWHERE, LEAST_JOBS, MOST_JOBS, bundles
from paibench.slurm.profile import Profile


def specs(count: int, **fields: Any) -> list[Spec]:
    """So many runs that differ in their seeds."""
    given = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
    runs = [given | {"method": "random", "seed": seed} | fields for seed in range(count)]
    return [Spec.model_validate(run) for run in runs]


def sizes(
    runs: list[Spec], seconds: float | None = None, slots: int | None = None, **keys: Any
) -> list[int]:
    """How many of these runs each job gets; no run is lost and none is moved."""
    found = bundles(runs, Profile(name="a", **keys), lambda _: seconds, slots)
    assert [spec for bundle in found for spec in bundle] == runs
    return [len(bundle) for bundle in found]


@pytest.mark.parametrize(
    ("count", "slots", "jobs"),
    [
        (1, 4, 1),
        (3, 4, 3),
        (3_000, 2, LEAST_JOBS),
        (3_000, 20, 40),
        (3_000, 500, MOST_JOBS - 2),  # of 32 runs each
        (3_000, None, ELSEWHERE),
        (ELSEWHERE, None, ELSEWHERE),
    ],
)
def test_where_nothing_is_known(count: int, slots: int | None, jobs: int) -> None:
    """There are two jobs for each that the cluster can do at once, in bounds that it likes."""
    assert len(sizes(specs(count), slots=slots)) == jobs


def test_as_the_profile_says() -> None:
    """`runs_per_job` is kept to, whatever is known of the runs."""
    assert sizes(specs(10), seconds=1e6, runs_per_job=4) == [4, 4, 2]


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
    ids=["short", "worth a job", "side by side", "spread", "longer than a job's share", "limit"],
)
def test_where_records_tell_how_long_runs_take(
    count: int, seconds: float, keys: dict[str, Any], expected: list[int]
) -> None:
    """A job has two minutes of work or more, but no more than half its time."""
    assert sizes(specs(count), seconds, **keys) == expected


def test_runs_that_share_stages_stay_together() -> None:
    """Runs of one lane begin a new job where they do not fit into the present one."""
    imp = {"name": "imp", "rate": 0.5}
    lane = [run for n in (2, 4, 8) for run in specs(1, method=imp, density=1 / n)]
    found = bundles(specs(2) + lane, Profile(name="a", runs_per_job=4), lambda _: None)
    assert [len(bundle) for bundle in found] == [2, 3]

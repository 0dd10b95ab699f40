"""Distribution of runs over jobs: short runs share a job, and so do runs with common stages."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from paibench.benchmark.spec import Spec
from paibench.benchmark.sweeps.plan import stage_group
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Bundle

# Without an estimate of the runs: more jobs would burden the controller, and with fewer a job
# might take very long if the runs turn out to be long.
MIN_JOBS, MAX_JOBS = 8, 96
JOBS_PER_SLOT = 2  # so that no slot is idle while the last job of another slot still runs
JOBS_WITHOUT_SLOTS = 48  # if the size of the cluster is unknown
MIN_SECONDS = 120.0  # of work, which makes the start of a job negligible
MAX_SECONDS = 3600.0


def bundles(
    specs: Sequence[Spec],
    profile: Profile,
    seconds: Callable[[Spec], float | None],
    slots: int | None = None,
) -> list[Bundle]:
    """Distribute runs over jobs, in their order.

    A job gets `runs_per_job` runs. If the profile does not set that, there are about two jobs for
    each of the cluster's `slots`; and if `seconds` estimates every run, each job gets at least
    two minutes of work and at most half its time limit. Runs of one stage group stay in one job
    if they fit.
    """
    if profile.runs_per_job is not None:
        return list(_fill(specs, [1.0] * len(specs), profile.runs_per_job))
    if slots is None:
        jobs = JOBS_WITHOUT_SLOTS
    else:
        jobs = min(max(JOBS_PER_SLOT * slots, MIN_JOBS), MAX_JOBS)
    estimates = [estimate for spec in specs if (estimate := seconds(spec)) is not None]
    if not estimates or len(estimates) < len(specs):
        return list(_fill(specs, [1.0] * len(specs), math.ceil(len(specs) / jobs)))
    work = [estimate / profile.runs_at_a_time for estimate in estimates]
    # Half the time limit leaves room for an estimate that is too low.
    most = min(MAX_SECONDS, profile.minutes * 60 / 2)
    return list(_fill(specs, work, min(max(sum(work) / jobs, MIN_SECONDS), most)))


def _fill(specs: Sequence[Spec], weights: Sequence[float], capacity: float) -> Iterator[Bundle]:
    """Yield consecutive runs whose weights sum to at most `capacity`, or single runs."""
    bundle: list[Spec] = []
    used = 0.0
    for group in _stage_groups(specs, weights):
        group_weight = sum(weight for _, weight in group)
        if bundle and group_weight <= capacity < used + group_weight:
            yield tuple(bundle)
            bundle, used = [], 0.0
        for spec, weight in group:
            if bundle and used + weight > capacity:
                yield tuple(bundle)
                bundle, used = [], 0.0
            bundle.append(spec)
            used += weight
    if bundle:
        yield tuple(bundle)


def _stage_groups(
    specs: Sequence[Spec], weights: Sequence[float]
) -> Iterator[list[tuple[Spec, float]]]:
    """Yield neighbours of one stage group together; runs without a group are single."""
    numbered = enumerate(zip(specs, weights, strict=True))
    for _, group in groupby(numbered, key=lambda item: stage_group(item[1][0]) or item[0]):
        yield [pair for _, pair in group]

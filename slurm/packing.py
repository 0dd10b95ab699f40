"""Which runs go into one job: short ones together, and those that share stages side by side."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from paibench.benchmark.spec import Spec
from paibench.benchmark.sweeps.plan import stage_group
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Bundle

MOST_JOBS = 96  # for runs of which nothing is known: more would be a burden to a cluster,
LEAST_JOBS = 8  # and fewer would go on for long where the runs turn out to be long
ROUNDS = 2  # of jobs on a free cluster, so that no slot is idle while another has much left
ELSEWHERE = 48  # jobs where nothing is known of the cluster
LEAST_SECONDS = 120.0  # of work, beside which the start of a job is short
MOST_SECONDS = 3600.0


def bundles(
    specs: Sequence[Spec],
    profile: Profile,
    seconds: Callable[[Spec], float | None],
    slots: int | None = None,
) -> list[Bundle]:
    """Divide runs among jobs, in their order.

    A job gets `runs_per_job` of them. Where the profile leaves that open, there are about twice as
    many jobs as the cluster has `slots` for; and where `seconds` has an estimate for every run,
    each gets at least as much work as is worth a job and no more than half its time limit. Runs
    of one lane stay in one job where it has room for them.
    """
    if profile.runs_per_job is not None:
        return list(_filled(specs, [1.0] * len(specs), profile.runs_per_job))
    jobs = ELSEWHERE if slots is None else min(max(ROUNDS * slots, LEAST_JOBS), MOST_JOBS)
    estimates = [seconds(spec) for spec in specs]
    known = [estimate for estimate in estimates if estimate is not None]
    if not known or len(known) < len(specs):
        return list(_filled(specs, [1.0] * len(specs), math.ceil(len(specs) / jobs)))
    work = [estimate / profile.runs_at_a_time for estimate in known]
    most = min(MOST_SECONDS, profile.minutes * 60 / 2)
    return list(_filled(specs, work, min(max(sum(work) / jobs, LEAST_SECONDS), most)))


def _filled(specs: Sequence[Spec], weights: Sequence[float], room: float) -> Iterator[Bundle]:
    """Consecutive runs whose weights add up to no more than `room`, or single ones."""
    present: list[Spec] = []
    used = 0.0
    for group in _stage_groups(specs, weights):
        together = sum(weight for _, weight in group)
        if present and together <= room < used + together:
            yield tuple(present)
            present, used = [], 0.0
        for spec, weight in group:
            if present and used + weight > room:
                yield tuple(present)
                present, used = [], 0.0
            present.append(spec)
            used += weight
    if present:
        yield tuple(present)


def _stage_groups(
    specs: Sequence[Spec], weights: Sequence[float]
) -> Iterator[list[tuple[Spec, float]]]:
    """Neighbours of one lane together; a run without a lane by itself."""
    numbered = enumerate(zip(specs, weights, strict=True))
    for _, group in groupby(numbered, key=lambda item: stage_group(item[1][0]) or item[0]):
        yield [pair for _, pair in group]

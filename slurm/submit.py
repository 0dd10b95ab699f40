"""Handing a sweep to a cluster: what is missing and not queued yet becomes a campaign of jobs."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep

from paibench.benchmark import claims
from paibench.benchmark.commit import server_time
from paibench.benchmark.naming import attempt_name
from paibench.benchmark.plan import Plan, plan
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.benchmark.sweep import Sweep
from paibench.methods.registry import UserError
from paibench.slurm import batch, queue
from paibench.slurm.ask import ask
from paibench.slurm.bundle import bundles
from paibench.slurm.campaign import Campaign
from paibench.slurm.limits import Limits
from paibench.slurm.plugins import try_out
from paibench.slurm.profile import Profile
from paibench.slurm.queue import Queue
from paibench.slurm.stale import free_stale_claims
from paibench.slurm.work import run_memory

_TURN_SECONDS = 600.0  # that a step of one submission may take while another waits
_SILENT_TURNS = 15  # looks for one's turn before one says so
_ANSWERS = 3  # times that the controller is asked for the queue


@dataclass(frozen=True)
class Outlook:
    """A sweep before it is submitted: what is done, under way, and to be queued as which jobs."""

    plan: Plan
    failed: tuple[Spec, ...]
    """Failed for good, and nobody is at them again."""
    under_way: tuple[Spec, ...]
    """Queued, or at work in a job or elsewhere."""
    campaign: Campaign | None
    """The jobs to come; None where there are none. Not on disk yet."""
    waiting: int
    """Runs for which the cluster has no room now."""

    @property
    def queued(self) -> tuple[Spec, ...]:
        """The runs of the jobs to come."""
        return self.campaign.specs if self.campaign else ()

    def after(self, taken: Campaign, arrays: int) -> "Outlook":
        """What it has become once so many arrays of `taken` are queued, and the rest waits."""
        room = sum(taken.chunks()[:arrays])
        queued = replace(taken, bundles=taken.bundles[:room]) if room else None
        late = len(self.queued) - (len(queued.specs) if queued else 0)
        return replace(self, campaign=queued, waiting=self.waiting + late)

    @property
    def hours(self) -> float | None:
        """Estimated hours of all jobs together; None where a run is like none before."""
        known = [self.plan.estimates.seconds(spec) for spec in self.queued]
        if self.campaign is None or None in known:
            return None
        at_a_time = self.campaign.profile.runs_at_a_time
        return sum(seconds or 0.0 for seconds in known) / 3600 / at_a_time


def outlook(
    sweep: Sweep,
    store: Store,
    profile: Profile,
    limits: Limits,
    there: Queue | None,
    data: Path | None,
    *,
    retry: bool = False,
) -> Outlook:
    """What submitting would do; nothing is changed. `there` are our jobs on the cluster."""
    work = plan(sweep, store, retry=retry, check=True, memory_mb=run_memory(profile))
    busy = _queued(there) | _claimed(store, work.missing)
    under_way = tuple(spec for spec in work.missing + work.failed if spec.key in busy)
    failed = tuple(spec for spec in work.failed if spec.key not in busy)
    missing = [spec for spec in work.missing if spec.key not in busy]
    jobs = bundles(missing, profile, work.estimates.seconds, limits.slots) if missing else []
    room = _room(limits, there)
    waiting = sum(map(len, jobs[room:]))
    plugins = {} if profile.python or profile.container else try_out(_methods(missing))
    campaign = None
    if jobs[:room]:
        campaign = Campaign.new(
            *(store, sweep.name, jobs[:room], limits.max_array_size, profile, data),
            retry=retry,
            plugins=plugins,
        )
    return Outlook(work, failed, under_way, campaign, waiting)


def submit(
    sweep: Sweep,
    store: Store,
    profile: Profile,
    limits: Limits,
    data: Path | None,
    *,
    retry: bool = False,
) -> tuple[Outlook, list[str]]:
    """Queue what is missing; what that came to, and the numbers of the arrays.

    Only one submission to a store is made at a time. Jobs that are held for ever are replaced,
    claims of jobs that are gone are freed. Raises UserError where SLURM does not answer or refuses;
    then nothing of ours is left behind that was not queued.
    """
    with _turn(store) as beat:
        there = _without_held(_ask_queue(store), {spec.key for spec in sweep.specs})
        free_stale_claims(store, sweep.specs)
        beat()
        found = outlook(sweep, store, profile, limits, there, data, retry=retry)
        beat()
        if found.campaign is None:
            return found, []
        queued, numbers = _queue_what_fits(found.campaign, beat)
    return found.after(queued, len(numbers)), numbers


def _queue_what_fits(campaign: Campaign, beat: Callable[[], object]) -> tuple[Campaign, list[str]]:
    """Queue a campaign, or the first half of it, or of that: there are limits that nobody tells."""
    numbers = _queue_all(campaign, beat)
    if numbers or len(campaign.bundles) == 1:
        return campaign, numbers
    return _queue_what_fits(campaign.first(len(campaign.bundles) // 2), beat)


def _queue_all(campaign: Campaign, beat: Callable[[], object]) -> list[str]:
    """Put a campaign on disk and as many of its arrays as there is room for into the queue.

    Where that is none, it is not kept. Raises UserError.
    """
    campaign.write()
    numbers: list[str] = []
    try:
        for chunk in range(len(campaign.chunks())):
            numbers.append(batch.queue(campaign, chunk))
            beat()
    except batch.NoRoom:
        pass
    except UserError as error:
        if numbers:
            raise UserError(f"{len(numbers)} arrays are queued, the rest not: {error}") from error
        raise
    finally:
        if not numbers:
            shutil.rmtree(campaign.folder, ignore_errors=True)
    return numbers


class NoAnswer(UserError):
    """SLURM's controller does not answer; it may do so later."""


def _ask_queue(store: Store) -> Queue:
    """Our jobs on the cluster. Raises NoAnswer."""
    for turn in range(_ANSWERS):
        if (there := queue.look(store)) is not None:
            return there
        sleep(2.0**turn)
    raise NoAnswer(
        "SLURM's controller does not answer squeue, so that what is queued is not known; say the "
        "same again when `scontrol ping` says that it is up"
    )


def _without_held(there: Queue, keys: Set[str]) -> Queue:
    """The queue after jobs for these runs that SLURM gave up are cancelled, to be replaced."""
    held = {job for job, specs in there.runs() if job.held and keys & {s.key for s in specs}}
    for job in held:
        ask("scancel", job.shown)
    return Queue(there.store, tuple(job for job in there.jobs if job not in held), there.others)


def _queued(there: Queue | None) -> set[str]:
    """The runs of jobs that are to do them; a job that is about to end leaves its claims."""
    runs = there.runs() if there else ()
    return {spec.key for job, specs in runs if job.state != "COMPLETING" for spec in specs}


def _claimed(store: Store, specs: Sequence[Spec]) -> set[str]:
    """The keys of runs that somebody works on, in whatever way."""
    tried = [spec for spec in specs if os.path.exists(store.run_folder(spec.key))]
    if not tried:
        return set()
    now = server_time(store.root)
    held = {spec.key: claims.look(store.run_folder(spec.key), now) for spec in tried}
    return {key for key, claim in held.items() if claim and not claim.over}


def _room(limits: Limits, there: Queue | None) -> int:
    """How many more jobs we may queue."""
    most = limits.max_jobs if limits.max_submit is None else min(limits.max_jobs, limits.max_submit)
    return max(most - (len(there.numbers) if there else 0), 0)


def _methods(specs: Sequence[Spec]) -> set[str]:
    return {spec.method.name for spec in specs}


@contextmanager
def _turn(store: Store) -> Iterator[Callable[[], object]]:
    """Have the submissions of a store for oneself, while what is yielded is called often enough."""
    folder, name = store.root / "submissions", attempt_name()
    waited = 0
    while (held := claims.claim(folder, name, _TURN_SECONDS)) is None:
        if waited == _SILENT_TURNS:
            print("paibench: another submission to this store is made; waiting", file=sys.stderr)
        waited += 1
        sleep(0.2)
    try:
        yield held.beat
    finally:
        held.release()

"""What of ours waits or runs on the cluster, as its controller tells it."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.commands import error_of, run
from paibench.slurm.submission import Submission, find_submission, is_ours

_FIELDS = "%A|%i|%K|%T|%j|%r"
_GIVEN_UP = re.compile("requeued.(in.)?held|HoldMaxRequeue", re.IGNORECASE)
_AT_ONCE = 200  # jobs in one call of scancel


@dataclass(frozen=True)
class QueuedJob:
    """A job of a campaign, and how it stands."""

    number: int
    """Its own. That of an array's last job is also the number of the whole array."""
    shown: str
    """What SLURM's commands take for this job alone, such as `17_3`."""
    index: int
    """Its place in its array."""
    state: str
    name: str
    reason: str

    @property
    def held(self) -> bool:
        """Whether SLURM gave up starting it; what people hold is theirs to release."""
        return self.state == "PENDING" and bool(_GIVEN_UP.search(self.reason))


@dataclass(frozen=True)
class Queue:
    """Our jobs on the cluster; `store` is where their campaigns lie."""

    store: Store
    jobs: tuple[QueuedJob, ...]
    others: frozenset[int]
    """The numbers of our other jobs, which count against limits."""

    @cached_property
    def numbers(self) -> frozenset[int]:
        """The numbers of all our jobs that the controller knows."""
        return frozenset(job.number for job in self.jobs) | self.others

    @cached_property
    def campaigns(self) -> dict[str, tuple[Submission, int]]:
        """The campaigns and chunks of these jobs, by the jobs' names."""
        found = {
            name: find_submission(self.store, name) for name in {job.name for job in self.jobs}
        }
        return {name: place for name, place in found.items() if place}

    def runs(self) -> Iterator[tuple[QueuedJob, tuple[Spec, ...]]]:
        """Each job of this store's campaigns, with the runs that it is to do."""
        for job in self.jobs:
            if place := self.campaigns.get(job.name):
                campaign, chunk = place
                yield job, campaign.bundle(chunk, job.index)


def look(store: Store, everybody: bool = False) -> Queue | None:
    """What the controller says of our jobs, or everybody's; None where it does not answer."""
    whose = [] if everybody else ["-u", str(os.getuid())]  # its name may be an alias, or unknown
    # -a: jobs in partitions that are hidden from their owner are there all the same
    said = run("squeue", "-h", "-a", "-r", *whose, "-o", _FIELDS)
    if said is None:
        return None
    ours, others = [], set()
    for line in said.splitlines():
        number, shown, index, state, name, reason = line.split("|", 5)
        if is_ours(name):
            place = int(index) if index.isdecimal() else 0
            job = QueuedJob(int(number), shown, place, state, name, reason)
            ours.append(job)
        else:
            others.add(int(number))
    return Queue(store, tuple(ours), frozenset(others))


def cancel(there: Queue, keys: Collection[str]) -> list[QueuedJob]:
    """Take the jobs that are to do one of these runs off the cluster; which they were.

    Raises UserError where SLURM does not do so.
    """
    jobs = [job for job, specs in there.runs() if not {spec.key for spec in specs}.isdisjoint(keys)]
    for start in range(0, len(jobs), _AT_ONCE):
        names = [job.shown for job in jobs[start : start + _AT_ONCE]]
        if words := error_of("scancel", *names, seconds=60):
            raise UserError(f"scancel: {words}; say it again to cancel what is left")
    return jobs

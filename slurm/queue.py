"""The user's jobs on the cluster, as the controller lists them."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.commands import error_of, run
from paibench.slurm.submission import Submission, find_submission, is_job_name

# Formatted fields instead of --json: the JSON of squeue changes its field types between versions
# of SLURM (22.05, 23.02 and 23.11 all differ), these fields have not changed for a decade.
_FIELDS = "%A|%i|%K|%T|%j|%r"
_HELD_BY_SLURM = re.compile("requeued.(in.)?held|HoldMaxRequeue", re.IGNORECASE)
_CANCEL_BATCH = 200  # jobs in one call of scancel


@dataclass(frozen=True)
class QueuedJob:
    """A job of a submission and its state."""

    raw_id: int
    """Its own number. The number of an array's last job is also that of the whole array."""
    id: str
    """The id that SLURM's commands take for this job alone, such as `17_3`."""
    index: int
    """Its index in its array."""
    state: str
    name: str
    reason: str

    @property
    def held(self) -> bool:
        """Held by SLURM after repeated launch failures; jobs that a user holds do not count."""
        return self.state == "PENDING" and bool(_HELD_BY_SLURM.search(self.reason))


@dataclass(frozen=True)
class Queue:
    """The user's jobs on the cluster; `store` holds the submissions."""

    store: Store
    jobs: tuple[QueuedJob, ...]
    other_ids: frozenset[int]
    """Raw ids of the user's other jobs, which count against limits."""

    @property
    def raw_ids(self) -> frozenset[int]:
        """Raw ids of all jobs of the user that the controller knows."""
        return frozenset(job.raw_id for job in self.jobs) | self.other_ids

    @cached_property
    def submissions(self) -> dict[str, tuple[Submission, int]]:
        """The submission and chunk of each job, by the job's name."""
        names = {job.name for job in self.jobs}
        return {name: origin for name in names if (origin := find_submission(self.store, name))}

    def runs(self) -> Iterator[tuple[QueuedJob, tuple[Spec, ...]]]:
        """Yield each job of this store's submissions with the runs that it executes."""
        for job in self.jobs:
            if origin := self.submissions.get(job.name):
                submission, chunk = origin
                yield job, submission.bundle(chunk, job.index)


def read_queue(store: Store, all_users: bool = False) -> Queue | None:
    """Return the jobs of this user, or of all users; None if the controller does not answer."""
    # By number, since a user's name may be an alias or unknown.
    user = [] if all_users else ["-u", str(os.getuid())]
    # -a also lists jobs in partitions that are hidden from the user who submitted them.
    listing = run("squeue", "-h", "-a", "-r", *user, "-o", _FIELDS)
    if listing is None:
        return None
    jobs, others = [], set()
    for line in listing.splitlines():
        raw_id, shown_id, index, state, name, reason = line.split("|", 5)
        if is_job_name(name):
            position = int(index) if index.isdecimal() else 0
            jobs.append(QueuedJob(int(raw_id), shown_id, position, state, name, reason))
        else:
            others.add(int(raw_id))
    return Queue(store, tuple(jobs), frozenset(others))


def cancel(queue: Queue, keys: Collection[str]) -> list[QueuedJob]:
    """Cancel the jobs that execute one of these runs and return them. Raises UserError."""
    jobs = [job for job, specs in queue.runs() if not {s.key for s in specs}.isdisjoint(keys)]
    for start in range(0, len(jobs), _CANCEL_BATCH):
        ids = [job.id for job in jobs[start : start + _CANCEL_BATCH]]
        if error := error_of("scancel", *ids, seconds=60):
            raise UserError(f"scancel: {error}; re-run the command to cancel the rest")
    return jobs

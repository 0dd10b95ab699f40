"""Removal of what jobs left behind: leases of dead jobs, folders of old submissions."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import server_time
from paibench.benchmark.store.failures import is_unfinished
from paibench.benchmark.store.names import SlurmJob, slurm_job_of
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.commands import is_available
from paibench.slurm.job_state import JobEnd, end_of_finished_job, is_gone, record_interruption
from paibench.slurm.queue import read_queue
from paibench.slurm.submission import Submission

ALIVE_SECONDS = 60.0  # an owner that renewed its lease more recently is not declared dead


def release_dead_leases(store: Store, specs: Iterable[Spec]) -> dict[str, JobEnd]:
    """Release the leases of dead jobs on these runs and on all stages.

    Returns why each of these runs was interrupted, by key, and notes it in the store. Changes
    nothing if the controller does not answer. Raises StoreError.
    """
    now = server_time(store.root)
    gone: dict[SlurmJob, bool] = {}

    def dead_owner(folder: Path) -> str | None:
        info = lease.inspect(folder, now)
        job = slurm_job_of(info.owner) if info else None
        if info is None or job is None:
            return None
        if not info.expired and info.age < ALIVE_SECONDS:
            return None  # a controller that lost its state forgets jobs that still run
        if job not in gone:
            gone[job] = is_gone(job)
        return info.owner if gone[job] else None

    for path in (store.root / "stages").glob("*/*/*/claim"):
        if owner := dead_owner(path.parent):
            lease.revoke(path.parent, owner)
    released: dict[SlurmJob, list[tuple[Spec, str]]] = {}
    for spec in specs:
        folder = store.run_folder(spec.key)
        owner = dead_owner(folder)
        if owner and lease.revoke(folder, owner) and (job := slurm_job_of(owner)):
            released.setdefault(job, []).append((spec, owner))
    ends: dict[str, JobEnd] = {}
    for job, runs in released.items():
        end = end_of_finished_job(job, store.root / "submissions")
        for spec, attempt in runs:
            if is_unfinished(store, spec.key, attempt):
                record_interruption(store, spec, attempt, end, len(runs))
            ends[spec.key] = end
    return ends


def remove_old_submissions(store: Store, older: float) -> int:
    """Remove submissions older than `older` seconds without jobs; return how many.

    Removes nothing if SLURM does not answer. Logs of a submission are removed with it.
    """
    # The jobs may be another user's: a store can be shared by a group.
    queue = read_queue(store, all_users=True) if is_available() else None
    if queue is None:
        return 0
    alive = {submission.folder for submission, _ in queue.submissions.values()}
    now, removed = server_time(store.root), 0
    for path in (store.root / "submissions").glob("*-*/manifest.json"):
        if path.parent not in alive and now - path.stat().st_mtime > older:
            shutil.rmtree(path.parent, ignore_errors=True)
            removed += 1
    return removed


def submitted_specs(store: Store) -> Iterator[Spec]:
    """Yield the runs of all submissions of a store, each once."""
    seen: set[str] = set()
    for path in sorted((store.root / "submissions").glob("*-*/manifest.json")):
        try:
            specs = Submission.read(path.parent).specs
        except UserError:  # unreadable, so it names no run whose lease could be released
            continue
        for spec in specs:
            if spec.key not in seen:
                seen.add(spec.key)
                yield spec

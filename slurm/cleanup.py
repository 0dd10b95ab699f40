"""Claims of jobs that are gone: taken away at once, where the controller says that they are."""

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
from paibench.slurm import queue
from paibench.slurm.commands import is_available
from paibench.slurm.job_state import JobEnd, end_of_finished_job, is_gone, record_interruption
from paibench.slurm.submission import Submission

ALIVE_SECONDS = 60.0  # since its last sign of life, in which an owner is not taken for gone


def release_dead_leases(store: Store, specs: Iterable[Spec]) -> dict[str, JobEnd]:
    """Free these runs, and all stages, of jobs that are gone; why each run was lost, by key.

    An attempt that came to no end of its own gets a note of its job's. Changes nothing where the
    controller does not answer. Raises StoreError.
    """
    now = server_time(store.root)
    gone: dict[SlurmJob, bool] = {}

    def stale(folder: Path) -> str | None:
        held = lease.inspect(folder, now)
        job = slurm_job_of(held.owner) if held else None
        if held is None or job is None:
            return None
        if not held.expired and held.age < ALIVE_SECONDS:
            return None  # whatever the controller says, somebody is at it
        if job not in gone:
            gone[job] = is_gone(job)
        return held.owner if gone[job] else None

    for folder in _stages(store):
        if owner := stale(folder):
            lease.revoke(folder, owner)
    freed: dict[SlurmJob, list[tuple[Spec, str]]] = {}
    for spec in specs:
        folder = store.run_folder(spec.key)
        owner = stale(folder)
        if owner and lease.revoke(folder, owner) and (job := slurm_job_of(owner)):
            freed.setdefault(job, []).append((spec, owner))
    return {key: fate for job, runs in freed.items() for key, fate in _note(store, job, runs)}


def _stages(store: Store) -> Iterator[Path]:
    """The folders of stages that somebody computes."""
    return (path.parent for path in (store.root / "stages").glob("*/*/*/claim"))


def _note(
    store: Store, job: SlurmJob, runs: list[tuple[Spec, str]]
) -> Iterator[tuple[str, JobEnd]]:
    """Note of runs, with their attempts, what became of the job that was at them."""
    fate = end_of_finished_job(job, store.root / "submissions")
    for spec, attempt in runs:
        if is_unfinished(store, spec.key, attempt):
            record_interruption(store, spec, attempt, fate, len(runs))
        yield spec.key, fate


# upkeep: Clearing campaigns whose jobs are all over.


def remove_old_submissions(store: Store, older: float) -> int:
    """Remove the folders of campaigns that are `older` seconds old and have no job left; how many.

    Nothing is removed where SLURM does not say which jobs there are. Logs go with their campaigns.
    """
    there = queue.look(store, everybody=True) if is_available() else None
    if there is None:
        return 0
    alive = {campaign.folder for campaign, _ in there.campaigns.values()}
    now, removed = server_time(store.root), 0
    for path in (store.root / "submissions").glob("*-*/manifest.json"):
        if path.parent not in alive and now - path.stat().st_mtime > older:
            shutil.rmtree(path.parent, ignore_errors=True)
            removed += 1
    return removed


def asked_specs(store: Store) -> Iterator[Spec]:
    """The runs of all campaigns of a store, each once."""
    seen: set[str] = set()
    for path in sorted((store.root / "submissions").glob("*-*/manifest.json")):
        try:
            specs = Submission.read(path.parent).specs
        except UserError:  # it tells of nothing that could be freed
            continue
        for spec in specs:
            if spec.key not in seen:
                seen.add(spec.key)
                yield spec

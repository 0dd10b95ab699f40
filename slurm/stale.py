"""Claims of jobs that are gone: taken away at once, where the controller says that they are."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from paibench.benchmark import claims
from paibench.benchmark.commit import server_time
from paibench.benchmark.failures import is_open
from paibench.benchmark.naming import Job, job_of
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.fate import Fate, ask_later, is_gone
from paibench.slurm.notes import note_end

ALIVE_SECONDS = 60.0  # since its last sign of life, in which an owner is not taken for gone


def free_stale_claims(store: Store, specs: Iterable[Spec]) -> dict[str, Fate]:
    """Free these runs, and all stages, of jobs that are gone; why each run was lost, by key.

    An attempt that came to no end of its own gets a note of its job's. Changes nothing where the
    controller does not answer. Raises StoreError.
    """
    now = server_time(store.root)
    gone: dict[Job, bool] = {}

    def stale(folder: Path) -> str | None:
        held = claims.look(folder, now)
        job = job_of(held.owner) if held else None
        if held is None or job is None:
            return None
        if not held.over and held.age < ALIVE_SECONDS:
            return None  # whatever the controller says, somebody is at it
        if job not in gone:
            gone[job] = is_gone(job)
        return held.owner if gone[job] else None

    for folder in _stages(store):
        if owner := stale(folder):
            claims.evict(folder, owner)
    freed: dict[Job, list[tuple[Spec, str]]] = {}
    for spec in specs:
        folder = store.run_folder(spec.key)
        owner = stale(folder)
        if owner and claims.evict(folder, owner) and (job := job_of(owner)):
            freed.setdefault(job, []).append((spec, owner))
    return {key: fate for job, runs in freed.items() for key, fate in _note(store, job, runs)}


def _stages(store: Store) -> Iterator[Path]:
    """The folders of stages that somebody computes."""
    return (path.parent for path in (store.root / "stages").glob("*/*/*/claim"))


def _note(store: Store, job: Job, runs: list[tuple[Spec, str]]) -> Iterator[tuple[str, Fate]]:
    """Note of runs, with their attempts, what became of the job that was at them."""
    fate = ask_later(job, store.root / "submissions")
    for spec, attempt in runs:
        if is_open(store, spec.key, attempt):
            note_end(store, spec, attempt, fate, len(runs))
        yield spec.key, fate

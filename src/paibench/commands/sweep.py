"""Sweeps: execute one, show its plan, show its status."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.methods.core.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps.status import SweepStatus
    from paibench.slurm.queue import QueuedJob

VALUES_SHOWN = 12  # of each field in a plan
RUNS_SHOWN = 20  # of each kind in a status, without --all
WATCH_SECONDS = 5.0
_CLEAR_SCREEN = "\033[H\033[2J"

Queued = dict[str, "QueuedJob"]
"""The job that will execute each queued run, by the run's key."""


def sweep(
    file: o.SweepFile,
    out: o.StoreFolder = None,
    jobs: o.Jobs = None,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    data: o.Data = None,
    time_limit: o.TimeLimit = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    retry: o.Retry = False,
    as_json: o.Json = False,
) -> None:
    """Execute the missing runs of a sweep. Re-run it to continue; finished runs are kept."""
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.sweeps import sweep as sweeps
    from paibench.commands.progress import do_sweep

    requested = sweeps.read(file)
    root = o.store_at(out, requested.name, data)
    settings = RunSettings(
        jobs=o.jobs_for(jobs, threads),
        threads=threads,
        device=device,
        data=data,
        time_limit=time_limit,
        trusted=trusted,
        search_seconds=search_limit,
    )
    status = do_sweep(requested, root, settings, retry=retry, as_json=as_json)
    # After Ctrl-C, the message says how to continue instead.
    if not as_json and status != 130:
        typer.echo(f"{root}: `paibench leaderboard {root}` makes tables and plots")
    raise SystemExit(status)


def plan(file: o.SweepFile, out: o.StoreFolder = None, as_json: o.Json = False) -> None:
    """Show the runs of a sweep and estimate time and disk. Nothing is executed."""
    from paibench.benchmark.store.layout import is_store
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import plan as plans
    from paibench.benchmark.sweeps import sweep as sweeps

    requested = sweeps.read(file)
    root = o.store_at(out, requested.name)
    # A plan changes nothing, so it must not create the store.
    work = plans.plan(requested, Store.read(root) if is_store(root) else None)
    if as_json:
        facts = {
            "sweep": requested.name,
            "store": str(root),
            "runs": len(requested.specs),
            "done": len(work.done),
            "missing": len(work.missing),
            "failed": len(work.failed),
            "sharing_stages": work.shared,
            "seconds": work.seconds,
            "bytes": work.bytes,
        }
        o.echo_json(facts)
        return
    typer.echo(f"{requested.name}: {len(requested.specs)} runs, store {root}")
    typer.echo(f"  {len(work.done)} done, {len(work.missing)} missing, {len(work.failed)} failed")
    for field in ("dataset", "model", "recipe", "method", "density", "seed", "control"):
        counts = Counter(_text(getattr(spec, field)) for spec in requested.specs)
        some = [f"{name} x{n}" for name, n in list(counts.items())[:VALUES_SHOWN]]
        more = [f"and {len(counts) - len(some)} more"] if len(counts) > len(some) else []
        typer.echo(f"  {field:<8} {', '.join(some + more)}")
    typer.echo(f"  {work.shared} missing runs can share stages of their searches")
    if work.seconds is None:
        typer.echo("  time and disk: unknown until the store has records to estimate from")
    elif work.missing:
        typer.echo(
            f"  about {work.seconds / 3600:.2f} hours of work in one process and "
            f"{(work.bytes or 0) / 2**20:.1f} MiB, estimated from this store's records"
        )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- status ----------------------------------------------------------------------------------------


def status(
    what: Annotated[Path, typer.Argument(help="A sweep file, or a store.")],
    out: o.StoreFolder = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every five seconds.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show every run.")] = False,
    as_json: o.Json = False,
) -> None:
    """Show the status of a sweep, or of a store: which runs are done, running, queued, failed."""
    store, keys = _requested(what, out)
    while True:
        view = _View.now(store, keys)
        if as_json:
            o.echo_json(view.facts())
        else:
            if watch and sys.stdout.isatty():
                typer.echo(_CLEAR_SCREEN, nl=False)
            typer.echo("\n".join(view.lines(None if show_all else RUNS_SHOWN)))
        # Without running or queued runs, nothing changes any more.
        if not watch or not (view.status.running or view.queued):
            return
        sleep(WATCH_SECONDS)


def _requested(what: Path, out: Path | None) -> tuple["Store", frozenset[str] | None]:
    """Return the store, and the keys of a sweep; None stands for all runs of the store."""
    from paibench.benchmark.store.layout import is_store
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import sweep as sweeps

    if what.is_dir():
        if out is not None:
            raise UserError(f"--out {str(out)!r:.80} needs a sweep file; {what} is a store")
        return Store.read(what), None
    requested = sweeps.read(what)
    root = o.store_at(out, requested.name)
    if not is_store(root):
        raise UserError(f"{what}: has not been run yet; there is no store at {root}")
    return Store.read(root), frozenset(spec.key for spec in requested.specs)


@dataclass(frozen=True)
class _View:
    """The runs of a sweep or a store at one moment."""

    store: "Store"
    status: "SweepStatus"
    queued: Queued
    queue_known: bool
    """Whether SLURM answered, if it had to be asked."""
    aborted: str | None
    """Why the last submission was aborted, if it was."""

    @classmethod
    def now(cls, store: "Store", sweep_keys: frozenset[str] | None) -> "_View":
        from paibench.benchmark.sweeps.status import sweep_status

        keys = sweep_keys if sweep_keys is not None else _all_keys(store)
        status = sweep_status(store, keys)
        jobs = _jobs_by_run(store)
        # The queue lists a job until it ends, the store knows which of its runs are done or begun.
        open_keys = keys - status.done - status.running.keys()
        queued = {key: job for key, job in (jobs or {}).items() if key in open_keys}
        return cls(store, status, queued, jobs is not None, _abort_reason(store, keys))

    @property
    def runs(self) -> int:
        status = self.status
        return len(status.done | status.running.keys() | status.failed.keys() | status.missing)

    @property
    def missing(self) -> list[str]:
        return sorted(self.status.missing - self.queued.keys())

    @property
    def failed(self) -> list[str]:
        return sorted(self.status.failed.keys() - self.queued.keys())

    @property
    def causes(self) -> dict[str, int]:
        """The number of failed runs by cause, the most frequent first."""
        return dict(Counter(self.status.failed[key].cause for key in self.failed).most_common())

    def facts(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        failures = self.status.failed
        return {
            "store": str(self.store.root),
            "runs": self.runs,
            "done": len(self.status.done),
            "running": {
                key: {
                    "attempt": run.attempt,
                    "host": run.host,
                    "since": _local_time(run.since),
                    "stages": run.progress.stages,
                    "step": run.progress.step,
                    "steps": run.progress.steps,
                }
                for key, run in self.status.running.items()
            },
            "queued": {
                key: {"job": job.id, "state": job.state, "reason": job.reason}
                for key, job in self.queued.items()
            },
            "queue_known": self.queue_known,
            "failed": {
                key: {
                    "cause": failures[key].cause,
                    "reason": failures[key].reason,
                    "final": failures[key].final,
                    "log": str(failures[key].log),
                }
                for key in self.failed
            },
            "causes": self.causes,
            "missing": len(self.missing),
            "aborted": self.aborted,
        }

    def lines(self, most: int | None) -> Iterator[str]:
        """Yield the view as lines of text, with at most this many runs of each kind."""
        counts = {"running": len(self.status.running), "queued": len(self.queued)}
        under_way = [f"{count} {name}" for name, count in counts.items() if count]
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.items())
        failed = f"{len(self.failed)} failed" + (f" ({causes})" if causes else "")
        done = f"{len(self.status.done)} of {self.runs} runs done"
        summary = ", ".join([done, *under_way, failed, f"{len(self.missing)} missing"])
        yield f"{self.store.root}: {summary}"
        yield from _first(self._running_lines(), most)
        yield from self._queue_lines()
        yield from _first(self._failure_lines(), most)
        if self.aborted and (self.missing or self.failed):
            yield f"  aborted: {self.aborted}"

    def _running_lines(self) -> Iterator[str]:
        from paibench.benchmark.store.names import slurm_job_of

        for key, run in sorted(self.status.running.items()):
            job = slurm_job_of(run.attempt)
            host = f"{run.host}, job {job.id}" if job else run.host
            yield f"  {key[:12]} on {host} since {_local_time(run.since)}, {run.progress}"

    def _queue_lines(self) -> Iterator[str]:
        if not self.queue_known:
            yield "  SLURM does not answer: missing runs may be queued"
        # A job executes several runs, and is shown once.
        for job in {job.raw_id: job for job in self.queued.values() if job.held}.values():
            yield f"  job {job.id} is held permanently ({job.reason}); submit replaces it"

    def _failure_lines(self) -> Iterator[str]:
        for key in self.failed:
            failure = self.status.failed[key]
            retried = "" if failure.final else "; will be retried"
            log = f" (log: {failure.log})" if failure.log.exists() else ""
            yield f"  {key[:12]} {failure.cause}: {failure.reason}{retried}{log}"


def _all_keys(store: "Store") -> frozenset[str]:
    """Return the keys of all runs that are requested, done or attempted in a store."""
    from paibench.benchmark.store.atomic import read
    from paibench.benchmark.store.checksummed_json import Corrupt, decode

    listing = store.listing()
    keys = set(listing.done | listing.failed | store.attempted_keys())
    for path in sorted((store.root / "sweeps").glob("*.json")):
        try:
            # A sweep holds all its specs, so it may be much larger than a record.
            keys |= set(decode(read(path, 1 << 26))["runs"])
        except (OSError, Corrupt, KeyError) as error:
            raise UserError(f"{path}: cannot be read as a sweep: {error}") from error
    return frozenset(keys)


def _jobs_by_run(store: "Store") -> Queued | None:
    """Return the job of each queued or running run; None if SLURM does not answer."""
    from paibench.slurm.commands import is_available
    from paibench.slurm.queue import read_queue

    # SLURM is not asked about a store that was never submitted.
    if not is_available() or not any((store.root / "submissions").glob("*-*/manifest.json")):
        return {}
    queue = read_queue(store)
    if queue is None:
        return None
    return {spec.key: job for job, specs in queue.runs() for spec in specs}


def _abort_reason(store: "Store", keys: frozenset[str]) -> str | None:
    """Return why the last submission with any of these runs was aborted, if it was."""
    from paibench.slurm.submission import Submission

    # Manifests may be large, so they are read only if a submission was aborted.
    if not any((store.root / "submissions").glob("*-*/stopped.json")):
        return None
    for path in sorted((store.root / "submissions").glob("*-*/manifest.json"), reverse=True):
        try:
            submission = Submission.read(path.parent)
        except UserError:  # written by another version of paibench
            continue
        if keys & {spec.key for spec in submission.specs}:
            return submission.aborted
    return None


def _first(lines: Iterator[str], most: int | None) -> Iterator[str]:
    every = list(lines)
    yield from every[:most]
    if most is not None and len(every) > most:
        yield f"  and {len(every) - most} more (--all shows them)"


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

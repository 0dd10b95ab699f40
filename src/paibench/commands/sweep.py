"""Many runs from a file: do them, plan them, see how they stand."""

import json
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


VALUES_SHOWN = 12  # of a field in a plan

File = Annotated[Path, typer.Argument(help="A sweep in TOML, see docs/sweeps.md.")]


def sweep(
    file: File,
    out: o.StoreFolder = None,
    jobs: o.Jobs = None,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    data: o.Data = None,
    time_limit: o.TimeLimit = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try again what failed for good.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Do the missing runs of a sweep. Say it again after a stop; finished work is found."""
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import sweep as sweeps
    from paibench.commands.progress import do_sweep

    asked = sweeps.read(file)
    store = Store.open(o.store_at(out, asked.name, data))
    settings = RunSettings(
        jobs=o.jobs_for(jobs, threads),
        threads=threads,
        device=device,
        data=data,
        time_limit=time_limit,
        trusted=trusted,
        search_seconds=search_limit,
    )
    status = do_sweep(asked, store, settings, retry=retry, as_json=as_json)
    if not as_json and status != 130:
        typer.echo(f"{store.root}: `paibench leaderboard {store.root}` makes tables and plots")
    raise SystemExit(status)


def plan(file: File, out: o.StoreFolder = None, as_json: o.Json = False) -> None:
    """What a sweep comes to: runs done and missing, time and disk. Nothing is executed."""
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import plan as plans
    from paibench.benchmark.sweeps import sweep as sweeps

    asked = sweeps.read(file)
    root = o.store_at(out, asked.name)
    work = plans.plan(asked, Store.read(root) if (root / "bench.json").exists() else None)
    facts: dict[str, Any] = {
        "sweep": asked.name,
        "store": str(root),
        "runs": len(asked.specs),
        "done": len(work.done),
        "missing": len(work.missing),
        "failed": len(work.failed),
        "sharing_stages": work.shared,
        "seconds": work.seconds,
        "bytes": work.bytes,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{asked.name}: {len(asked.specs)} runs, store {root}")
    typer.echo(f"  {len(work.done)} done, {len(work.missing)} missing, {len(work.failed)} failed")
    for field in ("dataset", "model", "recipe", "method", "density", "seed", "control"):
        counts = Counter(_shown(getattr(spec, field)) for spec in asked.specs)
        some = [f"{name} x{n}" for name, n in list(counts.items())[:VALUES_SHOWN]]
        more = [f"and {len(counts) - len(some)} more"] if len(counts) > len(some) else []
        typer.echo(f"  {field:<8} {', '.join(some + more)}")
    typer.echo(f"  {work.shared} missing runs can share parts of their searches")
    if work.seconds is None:
        typer.echo("  time and disk: not known before the store has records to estimate from")
    elif work.missing:
        typer.echo(
            f"  about {work.seconds / 3600:.2f} hours of work in one process and "
            f"{(work.bytes or 0) / 2**20:.1f} MiB, by the means of this store's records"
        )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# standing: How a sweep stands: from the store first, and from SLURM what only that knows.

WATCH_SECONDS = 5.0
_CLEAR = "\033[H\033[2J"
SHOWN = 20  # runs of each kind, unless --all is said

Queued = dict[str, "QueuedJob"]


def status(
    what: Annotated[Path, typer.Argument(help="A sweep file, or a store.")],
    out: o.StoreFolder = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every five seconds.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every run, not some.")] = False,
    as_json: o.Json = False,
) -> None:
    """How a sweep stands, or every sweep of a store: done, running, queued, failed and why."""
    store, wanted = _asked(what, out)
    while True:
        view = _View.now(store, wanted)
        if as_json:
            typer.echo(json.dumps(view.facts()))
        else:
            if watch and sys.stdout.isatty():
                typer.echo(_CLEAR, nl=False)
            typer.echo("\n".join(view.lines(None if everything else SHOWN)))
        if not watch or not (view.found.running or view.queued):
            return
        sleep(WATCH_SECONDS)


@dataclass(frozen=True)
class _View:
    """What is known of the runs of a store at one moment."""

    store: "Store"
    found: "SweepStatus"
    queued: Queued
    stopped: str | None
    """Why the rest of the last submission was given up, if it was."""
    answered: bool
    """Whether SLURM said what is queued, where there is anything to ask it."""

    @classmethod
    def now(cls, store: "Store", wanted: frozenset[str] | None) -> "_View":
        from paibench.benchmark.sweeps.status import sweep_status

        keys = wanted if wanted is not None else _known(store)
        found = sweep_status(store, keys)
        there = _queue(store)
        queued = {key: job for key, job in (there or {}).items() if key in keys - found.done}
        for key in found.running:
            queued.pop(key, None)
        return cls(store, found, queued, _stopped(store, keys), there is not None)

    @property
    def runs(self) -> int:
        there = self.found
        return len(there.done | there.running.keys() | there.failed.keys() | there.missing)

    @property
    def missing(self) -> list[str]:
        return sorted(self.found.missing - self.queued.keys())

    @property
    def failed(self) -> list[str]:
        return sorted(self.found.failed.keys() - self.queued.keys())

    @property
    def causes(self) -> dict[str, int]:
        """How many runs failed for which cause, the most frequent first."""
        causes = Counter(self.found.failed[key].cause for key in self.failed)
        return dict(causes.most_common())

    def facts(self) -> dict[str, Any]:
        running = {
            key: {
                "attempt": run.attempt,
                "host": run.host,
                "since": _clock(run.since),
                **{name: getattr(run.progress, name) for name in ("stages", "step", "steps")},
            }
            for key, run in self.found.running.items()
        }
        failures = self.found.failed
        return {
            "store": str(self.store.root),
            "runs": self.runs,
            "done": len(self.found.done),
            "running": running,
            "queued": {
                key: {"job": job.id, "state": job.state, "reason": job.reason}
                for key, job in self.queued.items()
            },
            "queue_known": self.answered,
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
            "stopped": self.stopped,
        }

    def lines(self, most: int | None) -> Iterator[str]:
        parts = {"running": len(self.found.running), "queued": len(self.queued)}
        under_way = [f"{count} {name}" for name, count in parts.items() if count]
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.items())
        failed = f"{len(self.failed)} failed" + (f" ({causes})" if causes else "")
        counts = [*under_way, failed, f"{len(self.missing)} missing"]
        done = f"{len(self.found.done)} of {self.runs} runs done"
        yield f"{self.store.root}: {', '.join([done, *counts])}"
        yield from _some(self._running_lines(), most)
        yield from self._queue_lines()
        yield from _some(self._failure_lines(), most)
        if self.stopped and (self.missing or self.failed):
            yield f"  given up: {self.stopped}"

    def _running_lines(self) -> Iterator[str]:
        from paibench.benchmark.store.names import slurm_job_of

        for key, run in sorted(self.found.running.items()):
            job = slurm_job_of(run.attempt)
            where = f"{run.host}, job {job.id}" if job else run.host
            yield f"  {key[:12]} on {where} since {_clock(run.since)}, {run.progress}"

    def _queue_lines(self) -> Iterator[str]:
        if not self.answered:
            yield "  SLURM does not answer: what is missing may be queued"
        for job in {job.raw_id: job for job in self.queued.values() if job.held}.values():
            yield f"  job {job.id} is held for good ({job.reason}); submit replaces it"

    def _failure_lines(self) -> Iterator[str]:
        for key in self.failed:
            failure = self.found.failed[key]
            again = "" if failure.final else "; to be tried again"
            log = f" (log: {failure.log})" if failure.log.exists() else ""
            yield f"  {key[:12]} {failure.cause}: {failure.reason}{again}{log}"


def _asked(what: Path, out: Path | None) -> tuple["Store", frozenset[str] | None]:
    """The store in question, and the keys of a sweep; None for all that it knows."""
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import sweep as sweeps

    if what.is_dir():
        if out is not None:
            raise UserError(f"--out {str(out)!r:.80} goes with a sweep file; {what} is a store")
        return Store.read(what), None
    asked = sweeps.read(what)
    root = o.store_at(out, asked.name)
    if not (root / "bench.json").exists():
        raise UserError(f"{what}: nothing has been run yet; there is no store at {root}")
    return Store.read(root), frozenset(spec.key for spec in asked.specs)


def _known(store: "Store") -> frozenset[str]:
    """The keys of all runs that were asked for, done or tried in a store."""
    from paibench.benchmark.store.atomic import read
    from paibench.benchmark.store.checksummed_json import Corrupt, decode

    listing = store.listing()
    keys = set(listing.done | listing.failed | store.attempted_keys())
    for path in sorted((store.root / "sweeps").glob("*.json")):
        try:
            keys |= set(decode(read(path, 1 << 26))["runs"])
        except (OSError, Corrupt, KeyError) as error:
            raise UserError(f"{path}: cannot be read as a sweep: {error}") from error
    return frozenset(keys)


def _queue(store: "Store") -> Queued | None:
    """What each queued or running job is to do; None where SLURM should know and does not say."""
    from paibench.slurm import queue
    from paibench.slurm.commands import is_available

    if not is_available() or not any((store.root / "submissions").glob("*-*/manifest.json")):
        return {}
    there = queue.read_queue(store)
    if there is None:
        return None
    return {spec.key: job for job, specs in there.runs() for spec in specs}


def _stopped(store: "Store", keys: frozenset[str]) -> str | None:
    """Why the last submission with any of these runs was given up, if it was."""
    from paibench.slurm.submission import Submission

    if not any((store.root / "submissions").glob("*-*/stopped.json")):
        return None
    for path in sorted((store.root / "submissions").glob("*-*/manifest.json"), reverse=True):
        try:
            submission = Submission.read(path.parent)
        except UserError:  # of another version of the suite; it tells nothing
            continue
        if keys & {spec.key for spec in submission.specs}:
            return submission.aborted
    return None


def _some(lines: Iterator[str], most: int | None) -> Iterator[str]:
    everything = list(lines)
    yield from everything[:most]
    if most is not None and len(everything) > most:
        yield f"  and {len(everything) - most} more (--all shows them)"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

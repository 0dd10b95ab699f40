"""How a sweep stands: from the store first, and from SLURM what only that knows."""

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
from paibench.methods.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.standing import Standing
    from paibench.benchmark.store import Store
    from paibench.slurm.queue import QueuedJob

WATCH_SECONDS = 5.0
_CLEAR = "\033[H\033[2J"
SHOWN = 20  # runs of each kind, unless --all is said

Queued = dict[str, "QueuedJob"]


def status(
    what: Annotated[Path, typer.Argument(help="A sweep file, or a store.")],
    out: o.Store = None,
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
    found: "Standing"
    queued: Queued
    stopped: str | None
    """Why the rest of the last campaign was given up, if it was."""
    answered: bool
    """Whether SLURM said what is queued, where there is anything to ask it."""

    @classmethod
    def now(cls, store: "Store", wanted: frozenset[str] | None) -> "_View":
        from paibench.benchmark.standing import standing

        keys = wanted if wanted is not None else _known(store)
        found = standing(store, keys)
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
                **{name: getattr(run.headway, name) for name in ("stages", "step", "steps")},
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
                key: {"job": job.shown, "state": job.state, "reason": job.reason}
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
        from paibench.benchmark.naming import job_of

        for key, run in sorted(self.found.running.items()):
            job = job_of(run.attempt)
            where = f"{run.host}, job {job.id}" if job else run.host
            yield f"  {key[:12]} on {where} since {_clock(run.since)}, {run.headway}"

    def _queue_lines(self) -> Iterator[str]:
        if not self.answered:
            yield "  SLURM does not answer: what is missing may be queued"
        for job in {job.number: job for job in self.queued.values() if job.held}.values():
            yield f"  job {job.shown} is held for good ({job.reason}); submit replaces it"

    def _failure_lines(self) -> Iterator[str]:
        for key in self.failed:
            failure = self.found.failed[key]
            again = "" if failure.final else "; to be tried again"
            log = f" (log: {failure.log})" if failure.log.exists() else ""
            yield f"  {key[:12]} {failure.cause}: {failure.reason}{again}{log}"


def _asked(what: Path, out: Path | None) -> tuple["Store", frozenset[str] | None]:
    """The store in question, and the keys of a sweep; None for all that it knows."""
    from paibench.benchmark import sweep as sweeps
    from paibench.benchmark.store import Store

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
    from paibench.benchmark.commit import read
    from paibench.benchmark.seal import Corrupt, unseal

    listing = store.listing()
    keys = set(listing.done | listing.failed | store.attempted())
    for path in sorted((store.root / "sweeps").glob("*.json")):
        try:
            keys |= set(unseal(read(path, 1 << 26))["runs"])
        except (OSError, Corrupt, KeyError) as error:
            raise UserError(f"{path}: cannot be read as a sweep: {error}") from error
    return frozenset(keys)


def _queue(store: "Store") -> Queued | None:
    """What each queued or running job is to do; None where SLURM should know and does not say."""
    from paibench.slurm import queue
    from paibench.slurm.ask import here

    if not here() or not any((store.root / "submissions").glob("*-*/manifest.json")):
        return {}
    there = queue.look(store)
    if there is None:
        return None
    return {spec.key: job for job, specs in there.runs() for spec in specs}


def _stopped(store: "Store", keys: frozenset[str]) -> str | None:
    """Why the last campaign with any of these runs was given up, if it was."""
    from paibench.slurm.campaign import Campaign

    if not any((store.root / "submissions").glob("*-*/stopped.json")):
        return None
    for path in sorted((store.root / "submissions").glob("*-*/manifest.json"), reverse=True):
        try:
            campaign = Campaign.read(path.parent)
        except UserError:  # of another version of the suite; it tells nothing
            continue
        if keys & {spec.key for spec in campaign.specs}:
            return campaign.stopped
    return None


def _some(lines: Iterator[str], most: int | None) -> Iterator[str]:
    everything = list(lines)
    yield from everything[:most]
    if most is not None and len(everything) > most:
        yield f"  and {len(everything) - most} more (--all shows them)"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

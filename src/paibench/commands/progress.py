"""Execution of a sweep with progress: a bar on a terminal, one line for each run in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from paibench.benchmark.execution.pool import CircuitBroken, Event, Pool
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.store.layout import is_store
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.plan import Plan, plan
from paibench.benchmark.sweeps.sweep import Sweep
from paibench.commands import options as o

Report = Callable[[Event], None]


def do_sweep(
    sweep: Sweep, root: Path, settings: RunSettings, *, retry: bool = False, as_json: bool = False
) -> int:
    """Execute the missing runs of a sweep and report them; return the exit status.

    0: every run has a record. 1: some failed. 130: stopped by Ctrl-C; finished runs are kept.
    """
    known = Store.read(root) if is_store(root) else None
    # With `check`, a run with a damaged record is missing and is executed again.
    work = plan(sweep, known, retry=retry, check=True)
    failed = len(work.failed)
    # Nothing is written if nothing is missing, so that the store may be read-only.
    store = Store.open(root) if work.missing or known is None else known
    if work.missing:
        # First, so that `status` knows all planned runs even if this process is killed.
        store.publish_sweep(sweep.id, sweep.plain())
    with _reporter(work, settings, as_json) as report:
        try:
            # Closed on any error, so that no worker outlives the command.
            with closing(Pool(store, settings).run(work.missing)) as events:
                for event in events:
                    failed += event.outcome == "failed"
                    report(event)
        except CircuitBroken as broken:
            print(f"paibench: stopped: {broken}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            # Counted in the store, since other processes may execute runs of the same sweep.
            done = len(plan(sweep, store).done)
            print(
                f"paibench: stopped; {done} of {len(sweep.specs)} runs are done and kept; "
                "re-run the command to continue",
                file=sys.stderr,
            )
            return 130
    if work.failed:
        print(
            f"paibench: {len(work.failed)} runs failed permanently before; --retry retries them",
            file=sys.stderr,
        )
    return 1 if failed else 0


@contextmanager
def _reporter(work: Plan, settings: RunSettings, as_json: bool) -> Iterator[Report]:
    """Yield a function that reports events as JSON, in a bar, or as lines."""
    if as_json:
        yield lambda event: o.echo_json(_plain(event))
    elif sys.stderr.isatty():
        with _bar(work) as report:
            yield report
    else:
        total, number = len(work.missing), 0
        jobs = f"{settings.jobs} at a time, {settings.threads} thread(s) each"
        print(f"{len(work.done)} done, {total} to do, {jobs}", file=sys.stderr)

        def line(event: Event) -> None:
            nonlocal number
            number += 1
            print(f"[{number}/{total}] {_line(event)}", file=sys.stderr, flush=True)

        yield line


@contextmanager
def _bar(work: Plan) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = len(work.sweep.specs)
        task = progress.add_task(work.sweep.name, total=total, completed=len(work.done))

        def advance(event: Event) -> None:
            if event.outcome == "failed":
                # Without markup, since a reason may contain brackets.
                progress.console.print(_line(event), markup=False, highlight=False)
            progress.advance(task)

        yield advance


def _line(event: Event) -> str:
    reason = f": {event.cause}: {event.reason}" if event.reason else ""
    return f"{event.outcome} {event.spec} ({event.seconds:.1f} s){reason}"


def _plain(event: Event) -> dict[str, object]:
    return {
        "key": event.spec.key,
        "outcome": event.outcome,
        "seconds": round(event.seconds, 3),
        "spec": event.spec.canonical,
        "cause": event.cause,
        "reason": event.reason,
    }

"""Doing a sweep in front of somebody: a bar on a terminal, a line per event in a log."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import typer

from paibench.benchmark.execution.pool import CircuitBroken, Event, Pool
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.plan import Plan, plan
from paibench.benchmark.sweeps.sweep import Sweep

Say = Callable[[Event], None]


def do_sweep(
    sweep: Sweep, store: Store, settings: RunSettings, *, retry: bool = False, as_json: bool = False
) -> int:
    """Do what is missing of a sweep and say how it goes; the exit status.

    0: every run has a record. 1: some failed. 130: stopped by Ctrl-C; what was finished stays.
    """
    store.publish_sweep(sweep.id, sweep.plain())
    work = plan(sweep, store, retry=retry, check=True)
    failed = len(work.failed)
    with _reporter(work, settings, as_json) as say:
        try:
            with closing(Pool(store, settings).run(work.missing)) as events:
                for event in events:
                    failed += event.outcome == "failed"
                    say(event)
        except CircuitBroken as broken:
            print(f"paibench: stopped: {broken}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            done = len(plan(sweep, store).done)
            print(
                f"paibench: stopped; {done} of {len(sweep.specs)} runs are done and kept; "
                "say the same again to go on",
                file=sys.stderr,
            )
            return 130
    if work.failed:
        print(
            f"paibench: {len(work.failed)} runs failed before and were not tried again; "
            "--retry tries them",
            file=sys.stderr,
        )
    return 1 if failed else 0


@contextmanager
def _reporter(work: Plan, settings: RunSettings, as_json: bool) -> Iterator[Say]:
    """Something to tell events to, fit for who reads it."""
    if as_json:
        yield lambda event: typer.echo(json.dumps(_plain(event)))
    elif sys.stderr.isatty():
        with _bar(work) as say:
            yield say
    else:
        total, number = len(work.missing), 0
        jobs = f"{settings.jobs} at a time, {settings.threads} thread(s) each"
        print(f"{len(work.done)} done, {total} to do, {jobs}", file=sys.stderr)

        def line(event: Event) -> None:
            nonlocal number
            number += 1
            print(f"[{number}/{total}] {_words(event)}", file=sys.stderr, flush=True)

        yield line


@contextmanager
def _bar(work: Plan) -> Iterator[Say]:
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
                progress.console.print(_words(event), markup=False, highlight=False)
            progress.advance(task)

        yield advance


def _words(event: Event) -> str:
    reason = f": {event.cause}: {event.reason}" if event.reason else ""
    return f"{event.outcome} {event.spec} ({event.seconds:.1f} s){reason}"


def _plain(event: Event) -> dict[str, object]:
    plain = {"key": event.spec.key, "outcome": event.outcome, "seconds": round(event.seconds, 3)}
    return {**plain, "spec": event.spec.canonical, "cause": event.cause, "reason": event.reason}

"""What becomes of a sweep that is meant for a cluster: shown, written, queued, waited for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any

import typer

from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps import sweep as sweeps
from paibench.benchmark.sweeps.sweep import Sweep
from paibench.commands import options as o
from paibench.methods.core.registry import UserError
from paibench.slurm import profile, submit
from paibench.slurm.cluster import is_transient, limits, problems
from paibench.slurm.profile import Profile
from paibench.slurm.queue import read_queue
from paibench.slurm.submit import ControllerUnavailable, SubmissionPlan

RESTART = (1.0, 2.0, 4.0, 8.0)  # seconds between asking whether a cluster is there again


@dataclass(frozen=True)
class Request:
    """A sweep, where its records go, what its jobs may ask for, and how to answer."""

    sweep: Sweep
    root: Path
    profile: Profile
    data: Path | None
    retry: bool
    as_json: bool

    def outlook(self, store: Store) -> SubmissionPlan:
        """What submitting would do now; nothing is changed."""
        there, most = read_queue(store), limits(self.profile)
        given = (self.sweep, store, self.profile, most, there, self.data)
        return submit.plan_submission(*given, retry=self.retry)


def request(
    file: Path,
    profile_name: str | None,
    out: Path | None,
    data: Path | None,
    *,
    retry: bool,
    as_json: bool,
) -> Request:
    """What a command line asks for. Raises UserError."""
    asked, given = sweeps.read(file), _profile(profile_name)
    place = data or given.data
    try:
        absolute = place.expanduser().absolute() if place else None
    except RuntimeError:  # ~ of somebody who is not there
        raise UserError(
            f"--data {str(place)!r:.80}: there is no such home; name a folder"
        ) from None
    root = o.store_at(out, asked.name, absolute)
    return Request(asked, root, given, absolute, retry, as_json)


def _profile(name: str | None) -> Profile:
    """The profile of this name, or the one called `default`, or none in particular."""
    if name is not None:
        return profile.read(name)
    if (profile.folder() / "default.toml").exists():
        return profile.read("default")
    return Profile(name="default")


def refuse_problems(given: Profile) -> None:
    """Raise UserError where the cluster cannot do what a profile says.

    A cluster that is just being started anew is waited for.
    """
    found = problems(given)
    for pause in RESTART:
        if not any(map(is_transient, found)):
            break
        sleep(pause)
        found = problems(given)
    if found:
        more = f" (and {len(found) - 1} more problems)" if len(found) > 1 else ""
        raise UserError(f"profile {given.name}: {found[0]}{more}")


def do_here(asked: Request) -> int:
    """Do the sweep by a pool of this machine; the exit status."""
    from paibench.commands.progress import do_sweep

    typer.echo("there is no SLURM on this machine: the runs are done here, now", err=True)
    settings = replace(
        asked.profile.run_settings(asked.data),
        jobs=o.jobs_for(None, asked.profile.threads),
        memory_mb=None,
    )
    store = Store.open(asked.root)
    return do_sweep(asked.sweep, store, settings, retry=asked.retry, as_json=asked.as_json)


def show_plan(asked: Request) -> None:
    """Say what would be queued, and how; nothing is written."""
    found = asked.outlook(_unwritten(asked.root))
    scripts = [submit.script(found.submission, 0)] if found.submission else []
    if asked.as_json:
        typer.echo(json.dumps(_facts(found) | {"submission": None, "script": scripts}))
        return
    _say(found, asked.profile)
    typer.echo("nothing was queued; the batch script would be:\n" if scripts else "nothing to do")
    typer.echo("\n".join(scripts))


def _unwritten(root: Path) -> Store:
    """A store to look at, be it there or not. Raises UserError where it can be none."""
    is_there = root.exists() and any(root.iterdir())
    return Store.read(root) if is_there else Store(root.absolute())


def write_scripts(asked: Request) -> None:
    """Put the submission on disk, with a script for each of its arrays."""
    store = Store.open(asked.root)
    found = asked.outlook(store)
    store.publish_sweep(asked.sweep.id, asked.sweep.plain())
    paths = submit.write_scripts(found.submission) if found.submission else []
    if asked.as_json:
        typer.echo(json.dumps(_facts(found) | {"scripts": list(map(str, paths))}))
        return
    _say(found, asked.profile)
    for path in paths:
        typer.echo(f"sbatch {path}")


def queue(asked: Request) -> None:
    """Submit what is missing, and say so."""
    answer(asked, *hand_over(asked))


def hand_over(asked: Request) -> tuple[SubmissionPlan, list[str]]:
    """Submit what is missing: what that came to, and the arrays' numbers. Raises UserError."""
    store = Store.open(asked.root)
    given = (asked.sweep, store, asked.profile, limits(asked.profile), asked.data)
    found, numbers = submit.submit(*given, retry=asked.retry)
    store.publish_sweep(asked.sweep.id, asked.sweep.plain())
    return found, numbers


def answer(asked: Request, found: SubmissionPlan, numbers: Sequence[str]) -> None:
    """Say what was submitted."""
    if found.submission and found.submission.code["dirty"]:
        typer.echo(
            "paibench: the checkout has changes that are in no commit; records will say so, and "
            "jobs that start after another change refuse to run",
            err=True,
        )
    if asked.as_json:
        typer.echo(json.dumps(_facts(found) | {"arrays": numbers}))
        return
    _say(found, asked.profile)
    if found.submission:
        typer.echo(f"queued as {', '.join(numbers)}, named {found.submission.name}-N")


def _facts(found: SubmissionPlan) -> dict[str, Any]:
    return {
        "runs": len(found.plan.sweep.specs),
        "done": len(found.plan.done),
        "failed": len(found.failed),
        "under_way": len(found.under_way),
        "queued": len(found.queued),
        "waiting": found.waiting,
        "jobs": len(found.submission.bundles) if found.submission else 0,
        "chunks": found.submission.chunks() if found.submission else [],
        "hours": found.hours,
        "submission": str(found.submission.folder) if found.submission else None,
    }


def _say(found: SubmissionPlan, given: Profile) -> None:
    plan = found.plan
    typer.echo(
        f"{plan.sweep.name}: {len(plan.sweep.specs)} runs: {len(plan.done)} done, "
        f"{len(found.failed)} failed for good, {len(found.under_way)} under way, "
        f"{len(found.queued)} to queue"
    )
    if found.failed:
        typer.echo("  `--retry` tries what failed for good")
    if found.waiting:
        typer.echo(f"  {found.waiting} more have to wait for room; say the same later, or --wait")
    if not found.submission:
        return
    what = f"{given.gpus} GPUs" if given.gpus else f"{given.cpus} CPUs"
    typer.echo(
        f"  {len(found.submission.bundles)} jobs of profile {given.name}, each {what}, "
        f"{given.memory} and at most {given.minutes} minutes, "
        f"{given.runs_at_a_time} runs at a time"
    )
    unit, share = ("GPU", given.gpus) if given.gpus else ("core", given.cpus)
    if found.hours is None:
        typer.echo(f"  {unit}-hours: not known, since the store has no records of runs like these")
    else:
        typer.echo(
            f"  about {found.hours * share:.2f} {unit}-hours, by the means of "
            f"{plan.estimates.records} records of this store"
        )


# waiting: Waiting for a sweep on a cluster: what becomes missing meanwhile is submitted.

FIRST_LOOK, LATER_LOOKS = 1.0, 20.0  # seconds between looks; each wait is twice the last at most
BARREN = 3  # submissions without a new record after which no other is made
SILENT = 10  # looks in a row that SLURM does not answer, after which waiting is over


def wait(asked: Request) -> int:
    """Submit what becomes missing until each run is done or failed for good; the exit status.

    Not for ever: after some submissions in a row that came to no new record, the rest is left to
    the user. Raises UserError where SLURM does not answer for long.
    """
    again, pause = replace(asked, retry=False), FIRST_LOOK
    done, barren = -1, 0
    while True:
        sleep(pause)
        if barren >= BARREN and _would_submit(again):
            typer.echo(
                f"paibench: {barren} submissions in a row gave no new record, and no other is "
                "made; `paibench status` says why",
                err=True,
            )
            return 1
        found, numbers = _look(again)
        if numbers:
            answer(again, found, numbers)
            barren = 0 if len(found.plan.done) > done else barren + 1
            done = len(found.plan.done)
        if not (found.under_way or found.queued or found.waiting):
            counts = f"{len(found.plan.done)} done, {len(found.failed)} failed for good"
            typer.echo(f"{asked.sweep.name}: {counts}", err=True)
            return 1 if found.failed else 0
        pause = FIRST_LOOK if numbers else min(2 * pause, LATER_LOOKS)


def _would_submit(asked: Request) -> bool:
    """Whether anything is missing that is not under way; where SLURM is silent, not yet."""
    store = Store.open(asked.root)
    return read_queue(store) is not None and asked.outlook(store).submission is not None


def _look(asked: Request) -> tuple[SubmissionPlan, list[str]]:
    """Submit what is missing now; a controller that is started anew will answer again."""
    for turn in range(1, SILENT + 1):
        try:
            return hand_over(asked)
        except ControllerUnavailable as error:
            if turn == SILENT:
                raise
            typer.echo(f"paibench: {error}", err=True)
            sleep(LATER_LOOKS)
    raise AssertionError

"""What `paibench submit` does with a sweep: show, write, queue, execute here, or wait for it."""

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
from paibench.slurm import profile as profiles
from paibench.slurm import submit
from paibench.slurm.cluster import is_transient, limits, problems
from paibench.slurm.profile import Profile
from paibench.slurm.queue import read_queue
from paibench.slurm.submit import ControllerUnavailable, SubmissionPlan

STARTING_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between checks of a cluster that is starting
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 20.0  # seconds between checks while waiting
FRUITLESS_LIMIT = 3  # submissions in a row without a new record after which waiting ends
UNANSWERED_LIMIT = 10  # checks in a row without an answer of SLURM after which waiting ends


@dataclass(frozen=True)
class Request:
    """The arguments of a call of `paibench submit`, checked."""

    sweep: Sweep
    root: Path
    """The folder of the store."""
    profile: Profile
    data: Path | None
    retry: bool
    as_json: bool

    @classmethod
    def of(
        cls,
        file: Path,
        profile_name: str | None,
        out: Path | None,
        data: Path | None,
        *,
        retry: bool,
        as_json: bool,
    ) -> "Request":
        """Return the request of a command line. Raises UserError."""
        sweep, profile = sweeps.read(file), _profile(profile_name)
        folder = data or profile.data
        try:
            # Jobs start in another folder than this process.
            absolute = folder.expanduser().absolute() if folder else None
        except RuntimeError:
            raise UserError(
                f"--data {str(folder)!r:.80}: there is no such home; name a folder"
            ) from None
        root = o.store_at(out, sweep.name, absolute)
        return cls(sweep, root, profile, absolute, retry, as_json)

    def plan(self, store: Store) -> SubmissionPlan:
        """Return what submitting would do now; nothing is changed."""
        state = (self.sweep, store, self.profile, limits(self.profile), read_queue(store))
        return submit.plan_submission(*state, self.data, retry=self.retry)


def _profile(name: str | None) -> Profile:
    """Return the profile with this name, or the one called `default`, or the defaults."""
    if name is not None:
        return profiles.read(name)
    if (profiles.folder() / "default.toml").exists():
        return profiles.read("default")
    return Profile(name="default")


def check_profile(profile: Profile) -> None:
    """Raise UserError if the cluster cannot run the jobs of a profile.

    A cluster that is just starting gets some seconds.
    """
    lines = problems(profile)
    for pause in STARTING_PAUSES:
        if not any(map(is_transient, lines)):
            break
        sleep(pause)
        lines = problems(profile)
    if lines:
        more = f" (and {len(lines) - 1} more problems)" if len(lines) > 1 else ""
        raise UserError(f"profile {profile.name}: {lines[0]}{more}")


def run_locally(request: Request) -> int:
    """Execute the sweep with a pool of this machine; return the exit status."""
    from paibench.commands.progress import do_sweep

    typer.echo("there is no SLURM on this machine: the runs are executed here", err=True)
    settings = replace(
        request.profile.run_settings(request.data),
        jobs=o.jobs_for(None, request.profile.threads),
        memory_mb=None,  # the profile's memory is that of a node of the cluster
    )
    return do_sweep(
        request.sweep, request.root, settings, retry=request.retry, as_json=request.as_json
    )


def show_plan(request: Request) -> None:
    """Show what would be queued, and the script; nothing is written."""
    exists = request.root.exists() and any(request.root.iterdir())
    plan = request.plan(Store.read(request.root) if exists else Store(request.root.absolute()))
    scripts = [submit.script(plan.submission, 0)] if plan.submission else []
    if request.as_json:
        o.echo_json(_facts(plan) | {"submission": None, "script": scripts})
        return
    _print(plan, request.profile)
    typer.echo("nothing was queued; the batch script would be:\n" if scripts else "nothing to do")
    typer.echo("\n".join(scripts))


def write_scripts(request: Request) -> None:
    """Write the submission with a script for each of its arrays, to be submitted by hand."""
    store = Store.open(request.root)
    plan = request.plan(store)
    store.publish_sweep(request.sweep.id, request.sweep.plain())
    paths = submit.write_scripts(plan.submission) if plan.submission else []
    if request.as_json:
        o.echo_json(_facts(plan) | {"scripts": list(map(str, paths))})
        return
    _print(plan, request.profile)
    for path in paths:
        typer.echo(f"sbatch {path}")


def queue(request: Request) -> None:
    """Submit the missing runs, and print what was queued."""
    _print_submitted(request, *_submit(request))


def _submit(request: Request) -> tuple[SubmissionPlan, list[str]]:
    """Submit the missing runs; return the plan and the ids of the arrays. Raises UserError."""
    store = Store.open(request.root)
    arguments = (request.sweep, store, request.profile, limits(request.profile), request.data)
    plan, arrays = submit.submit(*arguments, retry=request.retry)
    store.publish_sweep(request.sweep.id, request.sweep.plain())
    return plan, arrays


def _print_submitted(request: Request, plan: SubmissionPlan, arrays: Sequence[str]) -> None:
    if plan.submission and plan.submission.code["dirty"]:
        typer.echo(
            "paibench: the checkout has uncommitted changes; records will say so, and jobs that "
            "start after another change refuse to run",
            err=True,
        )
    if request.as_json:
        o.echo_json(_facts(plan) | {"arrays": arrays})
        return
    _print(plan, request.profile)
    if plan.submission:
        typer.echo(f"queued as {', '.join(arrays)}, named {plan.submission.name}-N")


def _facts(plan: SubmissionPlan) -> dict[str, Any]:
    submission = plan.submission
    return {
        "runs": len(plan.plan.sweep.specs),
        "done": len(plan.plan.done),
        "failed": len(plan.failed),
        "under_way": len(plan.under_way),
        "queued": len(plan.queued),
        "waiting": plan.waiting,
        "jobs": len(submission.bundles) if submission else 0,
        "chunks": submission.chunks() if submission else [],
        "hours": plan.hours,
        "submission": str(submission.folder) if submission else None,
    }


def _print(plan: SubmissionPlan, profile: Profile) -> None:
    sweep = plan.plan.sweep
    typer.echo(
        f"{sweep.name}: {len(sweep.specs)} runs: {len(plan.plan.done)} done, "
        f"{len(plan.failed)} failed permanently, {len(plan.under_way)} under way, "
        f"{len(plan.queued)} to queue"
    )
    if plan.failed:
        typer.echo("  `--retry` retries permanently failed runs")
    if plan.waiting:
        typer.echo(
            f"  {plan.waiting} more wait for room in the queue; re-run the command later, or "
            "use --wait"
        )
    if not plan.submission:
        return
    unit, count = ("GPU", profile.gpus) if profile.gpus else ("core", profile.cpus)
    typer.echo(
        f"  {len(plan.submission.bundles)} jobs of profile {profile.name}, each with {count} "
        f"{unit}s, {profile.memory} and at most {profile.minutes} minutes, "
        f"{profile.runs_at_a_time} runs at a time"
    )
    if plan.hours is None:
        typer.echo(f"  {unit}-hours: unknown, the store has no records of similar runs")
    else:
        typer.echo(
            f"  about {plan.hours * count:.2f} {unit}-hours, estimated from "
            f"{plan.plan.estimates.records} records of this store"
        )


# -- waiting ---------------------------------------------------------------------------------------


def wait(request: Request) -> int:
    """Resubmit missing runs until each is done or failed permanently; return the exit status.

    Ends with status 1 after some submissions in a row without a new record. Raises UserError if
    SLURM does not answer for long.
    """
    # --retry is for the first submission: otherwise a run that always fails is retried forever.
    again, pause = replace(request, retry=False), FIRST_PAUSE
    done, fruitless = -1, 0
    while True:
        sleep(pause)
        if fruitless >= FRUITLESS_LIMIT and _has_missing(again):
            typer.echo(
                f"paibench: {fruitless} submissions in a row gave no new record, so that no other "
                "is made; see `paibench status`",
                err=True,
            )
            return 1
        plan, arrays = _submit_when_available(again)
        if arrays:
            _print_submitted(again, plan, arrays)
            fruitless = 0 if len(plan.plan.done) > done else fruitless + 1
            done = len(plan.plan.done)
        if not (plan.under_way or plan.queued or plan.waiting):
            counts = f"{len(plan.plan.done)} done, {len(plan.failed)} failed permanently"
            typer.echo(f"{request.sweep.name}: {counts}", err=True)
            return 1 if plan.failed else 0
        pause = FIRST_PAUSE if arrays else min(2 * pause, LONGEST_PAUSE)


def _has_missing(request: Request) -> bool:
    """Return whether SLURM answers and any run is missing that is not under way."""
    store = Store.open(request.root)
    return read_queue(store) is not None and request.plan(store).submission is not None


def _submit_when_available(request: Request) -> tuple[SubmissionPlan, list[str]]:
    """Submit the missing runs; wait for a controller that is restarting."""
    for attempt in range(1, UNANSWERED_LIMIT + 1):
        try:
            return _submit(request)
        except ControllerUnavailable as error:
            if attempt == UNANSWERED_LIMIT:
                raise
            typer.echo(f"paibench: {error}", err=True)
            sleep(LONGEST_PAUSE)
    raise AssertionError

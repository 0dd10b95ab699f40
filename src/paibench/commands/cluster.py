"""Sweeps on a cluster: hand them over, take them back."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.commands.sweeps import File
from paibench.methods.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.store import Store
    from paibench.benchmark.sweep import Sweep
    from paibench.slurm.profile import Profile
    from paibench.slurm.submit import Outlook

LOOK_SECONDS = 20.0  # between two looks of --wait

Name = Annotated[
    str | None, typer.Option("--profile", help="A profile's name or path, see docs/cluster.md.")
]


def submit(
    file: File,
    profile: Name = None,
    out: o.Store = None,
    data: o.Data = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try again what failed for good.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, estimate and script; queue nothing.")
    ] = False,
    script_only: Annotated[
        bool, typer.Option("--script-only", help="Write batch scripts, to be submitted by hand.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay, submit what becomes missing, until all is done.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Queue the missing runs of a sweep on a SLURM cluster, and return at once.

    Say it again at any time: what is done or queued is left out. Without SLURM on this machine the
    runs are done here.
    """
    from paibench.benchmark import sweep as sweeps
    from paibench.benchmark.store import Store
    from paibench.slurm.ask import here

    asked, given = sweeps.read(file), _profile(profile)
    data = (data or given.data) and (data or given.data or Path()).expanduser().absolute()
    root = o.store_at(out, asked.name, data)
    if not here() and not script_only:
        raise SystemExit(_locally(asked, Store.open(root), given, data, retry, as_json))
    if here():
        _refuse_problems(given)
    if dry_run:
        return _show_plan(asked, Store.open(root), given, data, retry, as_json)
    store = Store.open(root)
    _keep(store, asked)
    if script_only:
        return _write_scripts(asked, store, given, data, retry, as_json)
    _submit_once(asked, store, given, data, retry, as_json)
    if wait:
        raise SystemExit(_wait(asked, store, given, data, as_json))
    if not as_json:
        typer.echo(
            f"`paibench status {file}` says how it stands; the same again submits what is missing"
        )


def retry(
    file: File,
    profile: Name = None,
    out: o.Store = None,
    data: o.Data = None,
    as_json: o.Json = False,
) -> None:
    """Queue what is missing of a sweep, and also what failed for good: `submit --retry`."""
    submit(file, profile, out, data, retry=True, as_json=as_json)


def cancel(file: File, out: o.Store = None, as_json: o.Json = False) -> None:
    """Take the jobs of a sweep off the cluster. Runs at work are kept to go on from."""
    from paibench.benchmark import sweep as sweeps
    from paibench.benchmark.store import Store
    from paibench.slurm import queue
    from paibench.slurm.ask import ask, here

    asked = sweeps.read(file)
    root = o.store_at(out, asked.name)
    if not here():
        raise UserError("there is no SLURM on this machine, so that nothing is queued on it")
    there = queue.look(Store.read(root))
    if there is None:
        raise UserError("SLURM's controller does not answer squeue; try again later")
    keys = {spec.key for spec in asked.specs}
    jobs = [job for job, specs in there.runs() if keys & {spec.key for spec in specs}]
    for start in range(0, len(jobs), 200):
        ask("scancel", *(str(job.number) for job in jobs[start : start + 200]), seconds=60)
    if as_json:
        typer.echo(json.dumps({"cancelled": [job.shown for job in jobs]}))
    else:
        typer.echo(f"{len(jobs)} jobs cancelled; `paibench submit {file}` goes on")


def _profile(name: str | None) -> "Profile":
    """The profile of this name, or the one called `default`, or none in particular."""
    from paibench.slurm import profile as profiles

    if name is not None:
        return profiles.read(name)
    if (profiles.folder() / "default.toml").exists():
        return profiles.read("default")
    return profiles.Profile(name="default")


def _refuse_problems(profile: "Profile") -> None:
    from paibench.slurm.check import problems

    found = problems(profile)
    if found:
        more = f" (and {len(found) - 1} more problems)" if len(found) > 1 else ""
        raise UserError(f"profile {profile.name}: {found[0]}{more}")


def _keep(store: "Store", sweep: "Sweep") -> None:
    """Let the store know what was asked for."""
    from paibench.benchmark.commit import publish
    from paibench.benchmark.seal import seal

    publish(store.root / "sweeps" / f"{sweep.id}.json", seal(sweep.plain()))


def _locally(
    sweep: "Sweep",
    store: "Store",
    profile: "Profile",
    data: Path | None,
    retry: bool,
    as_json: bool,
) -> int:
    from paibench.benchmark.pool import Settings
    from paibench.commands.progress import do_sweep

    typer.echo("there is no SLURM on this machine: the runs are done here, now", err=True)
    settings = Settings(
        jobs=o.jobs_for(None, profile.threads),
        threads=profile.threads,
        device=profile.device,
        data=data,
        checkpoint_seconds=profile.checkpoint_seconds,
    )
    return do_sweep(sweep, store, settings, retry=retry, as_json=as_json)


def _submit_once(
    sweep: "Sweep",
    store: "Store",
    profile: "Profile",
    data: Path | None,
    retry: bool,
    as_json: bool,
) -> "Outlook":
    from paibench.slurm.limits import limits
    from paibench.slurm.submit import submit as hand_over

    found, numbers = hand_over(sweep, store, profile, limits(profile), data, retry=retry)
    if found.campaign and found.campaign.code["dirty"]:
        typer.echo(
            "paibench: the checkout has changes that are in no commit; records will say so, and "
            "jobs that start after another change refuse to run",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(_facts(found) | {"arrays": numbers}))
    else:
        _say(found, profile)
        if numbers:
            typer.echo(f"queued as {', '.join(numbers)}, named {_names(found)}")
    return found


def _names(found: "Outlook") -> str:
    return f"{found.campaign.name}-N" if found.campaign else ""


def _facts(found: "Outlook") -> dict[str, Any]:
    return {
        "runs": len(found.plan.sweep.specs),
        "done": len(found.plan.done),
        "failed": len(found.plan.failed),
        "under_way": len(found.under_way),
        "queued": len(found.queued),
        "waiting": found.waiting,
        "jobs": len(found.campaign.bundles) if found.campaign else 0,
        "chunks": found.campaign.chunks() if found.campaign else [],
        "hours": found.hours,
        "campaign": str(found.campaign.folder) if found.campaign else None,
    }


def _say(found: "Outlook", profile: "Profile") -> None:
    plan = found.plan
    typer.echo(
        f"{plan.sweep.name}: {len(plan.sweep.specs)} runs: {len(plan.done)} done, "
        f"{len(plan.failed)} failed for good, {len(found.under_way)} under way, "
        f"{len(found.queued)} to queue"
    )
    if plan.failed:
        typer.echo("  `--retry` tries what failed for good")
    if found.waiting:
        typer.echo(f"  {found.waiting} more have to wait for room; say the same later, or --wait")
    if not found.campaign:
        return
    what = f"{profile.gpus} GPUs" if profile.gpus else f"{profile.cpus} CPUs"
    typer.echo(
        f"  {len(found.campaign.bundles)} jobs of profile {profile.name}, each {what}, "
        f"{profile.memory} and at most {profile.minutes} minutes, "
        f"{profile.runs_at_a_time} runs at a time"
    )
    unit, share = ("GPU", profile.gpus) if profile.gpus else ("core", profile.cpus)
    if found.hours is None:
        typer.echo(f"  {unit}-hours: not known, since the store has no records of runs like these")
    else:
        typer.echo(
            f"  about {found.hours * share:.2f} {unit}-hours, by the means of "
            f"{found.estimates.records} records of this store"
        )


def _show_plan(
    sweep: "Sweep",
    store: "Store",
    profile: "Profile",
    data: Path | None,
    retry: bool,
    as_json: bool,
) -> None:
    from paibench.slurm import batch, queue
    from paibench.slurm.limits import limits
    from paibench.slurm.submit import outlook

    there = queue.look(store)
    found = outlook(sweep, store, profile, limits(profile), there, data, retry=retry)
    scripts = [batch.script(found.campaign, 0)] if found.campaign else []
    if as_json:
        typer.echo(json.dumps(_facts(found) | {"campaign": None, "script": scripts}))
        return
    _say(found, profile)
    typer.echo("nothing was queued; the batch script would be:\n" if scripts else "nothing to do")
    typer.echo("\n".join(scripts))


def _write_scripts(
    sweep: "Sweep",
    store: "Store",
    profile: "Profile",
    data: Path | None,
    retry: bool,
    as_json: bool,
) -> None:
    from paibench.slurm import batch, queue
    from paibench.slurm.limits import limits
    from paibench.slurm.submit import outlook

    found = outlook(sweep, store, profile, limits(profile), queue.look(store), data, retry=retry)
    paths: list[Path] = []
    if found.campaign:
        found.campaign.write()
        for chunk in range(len(found.campaign.chunks())):
            paths.append(found.campaign.folder / f"array-{chunk}.sh")
            paths[-1].write_text(batch.script(found.campaign, chunk))
    if as_json:
        typer.echo(json.dumps(_facts(found) | {"scripts": list(map(str, paths))}))
        return
    _say(found, profile)
    for path in paths:
        typer.echo(f"sbatch {path}")


def _wait(
    sweep: "Sweep", store: "Store", profile: "Profile", data: Path | None, as_json: bool
) -> int:
    """Submit what becomes missing until every run is done or failed for good; the exit status."""
    while True:
        time.sleep(LOOK_SECONDS)
        found = _submit_once(sweep, store, profile, data, False, as_json)
        if not (found.under_way or found.queued or found.waiting):
            return 1 if found.plan.failed else 0

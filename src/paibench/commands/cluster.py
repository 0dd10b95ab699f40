"""Sweeps on a cluster: hand them over, take them back."""

import json
from typing import Annotated

import typer

from paibench.commands import options as o
from paibench.commands.sweep import File
from paibench.methods.core.registry import UserError

Name = Annotated[
    str | None, typer.Option("--profile", help="A profile's name or path, see docs/cluster.md.")
]


def submit(
    file: File,
    profile: Name = None,
    out: o.StoreFolder = None,
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
    from paibench.commands import submit
    from paibench.commands.submit import wait as wait_for
    from paibench.slurm.commands import is_available

    if dry_run + script_only + wait > 1:
        raise UserError("--dry-run, --script-only and --wait exclude each other; give one of them")
    asked = submit.request(file, profile, out, data, retry=retry, as_json=as_json)
    if is_available():
        submit.refuse_problems(asked.profile)
    if dry_run:
        submit.show_plan(asked)
    elif script_only:
        submit.write_scripts(asked)
    elif not is_available():
        raise SystemExit(submit.do_here(asked))
    else:
        submit.queue(asked)
        if wait:
            raise SystemExit(wait_for(asked))
        if not as_json:
            typer.echo(
                f"`paibench status {file}` says how it stands; the same again submits what is "
                "missing"
            )


def retry(
    file: File,
    profile: Name = None,
    out: o.StoreFolder = None,
    data: o.Data = None,
    as_json: o.Json = False,
) -> None:
    """Queue what is missing of a sweep, and also what failed for good: `submit --retry`."""
    submit(file, profile, out, data, retry=True, as_json=as_json)


def cancel(file: File, out: o.StoreFolder = None, as_json: o.Json = False) -> None:
    """Take the jobs of a sweep off the cluster. Runs at work are kept to go on from."""
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import sweep as sweeps
    from paibench.slurm import queue
    from paibench.slurm.commands import is_available

    asked = sweeps.read(file)
    root = o.store_at(out, asked.name)
    if not is_available():
        raise UserError("there is no SLURM on this machine, so that nothing is queued on it")
    there = queue.read_queue(Store.read(root))
    if there is None:
        raise UserError("SLURM's controller does not answer squeue; try again later")
    jobs = queue.cancel(there, {spec.key for spec in asked.specs})
    if as_json:
        typer.echo(json.dumps({"cancelled": [job.id for job in jobs]}))
    else:
        typer.echo(f"{len(jobs)} jobs cancelled; `paibench submit {file}` goes on")


# profiles: Profiles of clusters: whether what they ask for is to be had.

profile_app = typer.Typer(
    name="profile", help="What jobs ask of a cluster, see docs/cluster.md.", no_args_is_help=True
)


@profile_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A profile's name or path.")],
    as_json: o.Json = False,
) -> None:
    """Ask the cluster whether it can give what a profile asks for. Nothing is queued."""
    from paibench.slurm import profile as profiles
    from paibench.slurm.cluster import problems
    from paibench.slurm.commands import is_available

    found = profiles.read(name)
    if not is_available():
        raise UserError(
            f"profile {found.name} is well-formed; there is no SLURM on this machine to ask"
        )
    said = problems(found)
    if as_json:
        typer.echo(json.dumps({"profile": found.name, "problems": said}))
    elif not said:
        typer.echo(f"profile {found.name}: the cluster has all that it asks for")
    else:
        typer.echo(f"paibench: profile {found.name}: {' | '.join(said)}", err=True)
    raise SystemExit(2 if said else 0)


@profile_app.command()
def show(name: Annotated[str, typer.Argument(help="A profile's name or path.")]) -> None:
    """Show every key of a profile, defaults too."""
    from paibench.slurm import profile as profiles

    for key, value in profiles.read(name).model_dump(mode="json", exclude={"name"}).items():
        typer.echo(f"{key:<18} {'' if value is None else json.dumps(value)}")

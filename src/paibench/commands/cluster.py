"""Sweeps on a SLURM cluster: submit and cancel them, check profiles."""

import json
from typing import Annotated

import typer

from paibench.commands import options as o
from paibench.methods.core.registry import UserError


def submit(
    file: o.SweepFile,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="The name or path of a profile, see docs/cluster.md."),
    ] = None,
    out: o.StoreFolder = None,
    data: o.Data = None,
    retry: o.Retry = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, estimate and script; queue nothing.")
    ] = False,
    script_only: Annotated[
        bool, typer.Option("--script-only", help="Write batch scripts to submit by hand.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait, and resubmit missing runs until all are done.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Queue the missing runs of a sweep on a SLURM cluster, and return at once.

    Re-run it at any time: runs that are done or queued are left out. Without SLURM, the runs are
    executed on this machine.
    """
    from paibench.commands import submit
    from paibench.slurm.commands import is_available

    if dry_run + script_only + wait > 1:
        raise UserError("--dry-run, --script-only and --wait exclude each other; give one of them")
    request = submit.Request.of(file, profile, out, data, retry=retry, as_json=as_json)
    if is_available():
        # An unfit profile is reported before anything is written or queued.
        submit.check_profile(request.profile)
    if dry_run:
        submit.show_plan(request)
    elif script_only:
        submit.write_scripts(request)
    elif not is_available():
        raise SystemExit(submit.run_locally(request))
    else:
        submit.queue(request)
        if wait:
            raise SystemExit(submit.wait(request))
        if not as_json:
            typer.echo(
                f"`paibench status {file}` shows the progress; re-run this command to submit "
                "what is missing then"
            )


def cancel(file: o.SweepFile, out: o.StoreFolder = None, as_json: o.Json = False) -> None:
    """Cancel the jobs of a sweep. Interrupted runs resume with the next submit."""
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps import sweep as sweeps
    from paibench.slurm import queue
    from paibench.slurm.commands import is_available

    sweep = sweeps.read(file)
    root = o.store_at(out, sweep.name)
    if not is_available():
        raise UserError("there is no SLURM on this machine, so that no jobs can be cancelled")
    jobs = queue.read_queue(Store.read(root))
    # No answer is not an empty queue: jobs may be there.
    if jobs is None:
        raise UserError("SLURM's controller does not answer squeue; try again later")
    # A store may hold other sweeps, whose jobs go on.
    cancelled = queue.cancel(jobs, {spec.key for spec in sweep.specs})
    if as_json:
        o.echo_json({"cancelled": [job.id for job in cancelled]})
    else:
        typer.echo(f"{len(cancelled)} jobs cancelled; `paibench submit {file}` resumes their runs")


# -- profiles --------------------------------------------------------------------------------------

profile_app = typer.Typer(
    name="profile",
    help="Profiles of clusters: what jobs ask for, see docs/cluster.md.",
    no_args_is_help=True,
)
ProfileName = Annotated[str, typer.Argument(help="The name or path of a profile.")]


@profile_app.command()
def check(name: ProfileName, as_json: o.Json = False) -> None:
    """Check that the cluster can run the jobs of a profile. Nothing is queued."""
    from paibench.slurm import profile as profiles
    from paibench.slurm.cluster import problems
    from paibench.slurm.commands import is_available

    profile = profiles.read(name)
    if not is_available():
        raise UserError(
            f"profile {profile.name} is well-formed; there is no SLURM on this machine to check it"
        )
    lines = problems(profile)
    if as_json:
        o.echo_json({"profile": profile.name, "problems": lines})
    elif not lines:
        typer.echo(f"profile {profile.name}: the cluster can run its jobs")
    else:
        typer.echo(f"paibench: profile {profile.name}: {' | '.join(lines)}", err=True)
    raise SystemExit(2 if lines else 0)


@profile_app.command()
def show(name: ProfileName) -> None:
    """Show every key of a profile, including defaults."""
    from paibench.slurm import profile as profiles

    for key, value in profiles.read(name).model_dump(mode="json", exclude={"name"}).items():
        typer.echo(f"{key:<18} {'' if value is None else json.dumps(value)}")

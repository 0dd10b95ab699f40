"""Sweeps on a cluster: hand them over, take them back."""

import json
from typing import Annotated

import typer

from paibench.commands import options as o
from paibench.commands.sweeps import File
from paibench.methods.registry import UserError

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
    from paibench.commands import handover
    from paibench.commands.waiting import wait as wait_for
    from paibench.slurm.ask import here

    if dry_run + script_only + wait > 1:
        raise UserError("--dry-run, --script-only and --wait exclude each other; give one of them")
    asked = handover.request(file, profile, out, data, retry=retry, as_json=as_json)
    if here():
        handover.refuse_problems(asked.profile)
    if dry_run:
        handover.show_plan(asked)
    elif script_only:
        handover.write_scripts(asked)
    elif not here():
        raise SystemExit(handover.do_here(asked))
    else:
        handover.queue(asked)
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
    from paibench.slurm.ask import here

    asked = sweeps.read(file)
    root = o.store_at(out, asked.name)
    if not here():
        raise UserError("there is no SLURM on this machine, so that nothing is queued on it")
    there = queue.look(Store.read(root))
    if there is None:
        raise UserError("SLURM's controller does not answer squeue; try again later")
    jobs = queue.cancel(there, {spec.key for spec in asked.specs})
    if as_json:
        typer.echo(json.dumps({"cancelled": [job.shown for job in jobs]}))
    else:
        typer.echo(f"{len(jobs)} jobs cancelled; `paibench submit {file}` goes on")

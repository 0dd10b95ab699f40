"""Profiles of clusters: whether what they ask for is to be had."""

import json
from typing import Annotated

import typer

from paibench.commands import options as o
from paibench.methods.registry import UserError

profile = typer.Typer(
    name="profile", help="What jobs ask of a cluster, see docs/cluster.md.", no_args_is_help=True
)


@profile.command()
def check(
    name: Annotated[str, typer.Argument(help="A profile's name or path.")],
    as_json: o.Json = False,
) -> None:
    """Ask the cluster whether it can give what a profile asks for. Nothing is queued."""
    from paibench.slurm import profile as profiles
    from paibench.slurm.ask import here
    from paibench.slurm.check import problems

    found = profiles.read(name)
    if not here():
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


@profile.command()
def show(name: Annotated[str, typer.Argument(help="A profile's name or path.")]) -> None:
    """Show every key of a profile, defaults too."""
    from paibench.slurm import profile as profiles

    for key, value in profiles.read(name).model_dump(mode="json", exclude={"name"}).items():
        typer.echo(f"{key:<18} {'' if value is None else json.dumps(value)}")

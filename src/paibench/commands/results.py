"""Publishing results: held to what can be checked, and added."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.commands import marking
from paibench.commands import options as o

if TYPE_CHECKING:
    from paibench.leaderboard.submission.validate import Report

results = typer.Typer(
    name="results",
    help="Publish results: validate, merge, check and verify them, see docs/publishing.md.",
    no_args_is_help=True,
)


@results.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")],
    against: Annotated[
        Path | None, typer.Option(help="What is published already: a store, or a folder of them.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A file for the report, as Markdown.")] = None,
    as_json: o.Json = False,
) -> None:
    """Check records, masks and curves without running anything of theirs.

    Exit status 0 where they are sound, 1 where something is an error, 2 where there is no store.
    """
    from paibench.benchmark.commit import replace as write
    from paibench.leaderboard.submission.report import markdown
    from paibench.leaderboard.submission.validate import validate as held

    found = held(folder, against)
    if report:
        write(report, markdown(found).encode())
    _tell_report(found, as_json)
    raise SystemExit(0 if found.sound else 1)


@results.command()
def merge(
    source: Annotated[Path, typer.Argument(help="A store with new records.")],
    into: Annotated[Path, typer.Argument(help="The store that they are added to.")],
    dry_run: marking.DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Add the records of a store to another, where all of them are sound. Nothing is overwritten.

    Exit status 0 where they are there now, 1 where something is an error, and nothing is added.
    """
    from paibench.leaderboard.submission.merge import merge as add
    from paibench.leaderboard.submission.report import plain

    merged = add(source, into, dry_run=dry_run)
    sound = merged.report.sound
    if as_json:
        facts = {"new": dict(merged.new), "already": merged.already, "dry_run": dry_run}
        typer.echo(json.dumps(facts | {"report": plain(merged.report)}))
    elif not sound:
        _tell_report(merged.report, False)
        typer.echo("nothing was added")
    else:
        new = ", ".join(f"{number} {kind}" for kind, number in sorted(merged.new.items()) if number)
        would = "would be added" if dry_run else "added"
        typer.echo(f"{into}: {new or 'nothing'} {would}; {merged.already} records were there")
    raise SystemExit(0 if sound else 1)


results.command()(marking.check)
results.command()(marking.verify)


def _tell_report(found: "Report", as_json: bool) -> None:
    from rich.console import Console

    from paibench.leaderboard.submission import report

    if as_json:
        typer.echo(json.dumps(report.plain(found)))
        return
    if found.findings:
        Console().print(report.terminal(found))
    lines = [report.more(found), *report.mends(found), report.headline(found)]
    typer.echo("\n".join(line for line in lines if line))

"""Looking into the attempts at a run, and clearing away what nothing needs any more."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.commands import options as o
from paibench.commands.lookup import Key, Stores, find_run

if TYPE_CHECKING:
    from paibench.benchmark.store import Store

_DAY = 86_400.0


def logs(key: Key, out: Stores = None, as_json: o.Json = False) -> None:
    """What every attempt at a run printed, how far it came, and how it ended."""
    from paibench.benchmark.headway import read_headway

    store, full = find_run(key, out, tried=True)
    endings = {note.get("attempt"): note for note in store.failures(full)}
    attempts = []
    for name in sorted(store.attempts(full), key=lambda name: _last_written(store, full, name)):
        folder, note = store.attempt_folder(full, name), endings.get(name, {})
        text = folder / "log.txt"
        attempts.append(
            {
                "attempt": name,
                "ended": note.get("cause"),
                "reason": note.get("reason"),
                "headway": str(read_headway(folder)),
                "path": str(text),
                "log": text.read_text(errors="replace") if text.exists() else "",
            }
        )
    if as_json:
        typer.echo(json.dumps(attempts))
        return
    for attempt in attempts:
        how = f"{attempt['ended']}: {attempt['reason']}" if attempt["ended"] else "no failure noted"
        typer.echo(f"== {attempt['attempt']}: {how}")
        typer.echo(str(attempt["log"]).rstrip() or "(it printed nothing)")
    if not attempts:
        typer.echo(f"{full}: nothing was tried here")


def gc(
    store: Annotated[Path, typer.Argument(help="A store, see docs/sweeps.md.")],
    older: Annotated[
        float, typer.Option(min=0.0, help="Days after which stages and campaigns go.")
    ] = 30.0,
    as_json: o.Json = False,
) -> None:
    """Clear a store: claims of jobs that are gone, unfinished files, old stages and campaigns.

    Records, masks, curves and failures stay. What somebody is at work on stays as well.
    """
    from paibench.benchmark.store import Store
    from paibench.benchmark.upkeep import remove_old_stages
    from paibench.slurm.ask import here
    from paibench.slurm.stale import free_stale_claims
    from paibench.slurm.upkeep import asked_specs, remove_old_campaigns

    given = Store.open(store, create=False)
    freed = free_stale_claims(given, asked_specs(given)) if here() else {}
    removed = {
        "claims": len(freed),
        "unfinished": given.sweep_left_overs(),
        "stages": remove_old_stages(given, older * _DAY),
        "campaigns": remove_old_campaigns(given, older * _DAY),
    }
    if as_json:
        typer.echo(json.dumps(removed))
        return
    typer.echo(
        f"{given.root}: {removed['claims']} claims freed; {removed['unfinished']} unfinished "
        f"files, {removed['stages']} stages and {removed['campaigns']} campaigns removed"
    )


def _last_written(store: "Store", key: str, attempt: str) -> float:
    """When an attempt wrote its last, which puts them in order."""
    return store.attempt_folder(key, attempt).stat().st_mtime

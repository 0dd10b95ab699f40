"""Many runs from a file: do them, plan them, see how they stand."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from paibench.commands import options as o

VALUES_SHOWN = 12  # of a field in a plan

File = Annotated[Path, typer.Argument(help="A sweep in TOML, see docs/sweeps.md.")]


def sweep(
    file: File,
    out: o.Store = None,
    jobs: o.Jobs = None,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    data: o.Data = None,
    time_limit: o.TimeLimit = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try again what failed for good.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Do the missing runs of a sweep. Say it again after a stop; finished work is found."""
    from paibench.benchmark import sweep as sweeps
    from paibench.benchmark.pool import Settings
    from paibench.benchmark.store import Store
    from paibench.commands.progress import do_sweep

    asked = sweeps.read(file)
    store = Store.open(o.store_at(out, asked.name, data))
    settings = Settings(
        jobs=o.jobs_for(jobs, threads),
        threads=threads,
        device=device,
        data=data,
        time_limit=time_limit,
        trusted=trusted,
        search_seconds=search_limit,
    )
    status = do_sweep(asked, store, settings, retry=retry, as_json=as_json)
    if not as_json and status != 130:
        typer.echo(f"{store.root}: `paibench leaderboard {store.root}` makes tables and plots")
    raise SystemExit(status)


def plan(file: File, out: o.Store = None, as_json: o.Json = False) -> None:
    """What a sweep comes to: runs done and missing, time and disk. Nothing is executed."""
    from paibench.benchmark import plan as plans
    from paibench.benchmark import sweep as sweeps
    from paibench.benchmark.store import Store

    asked = sweeps.read(file)
    root = o.store_at(out, asked.name)
    work = plans.plan(asked, Store.read(root) if (root / "bench.json").exists() else None)
    facts: dict[str, Any] = {
        "sweep": asked.name,
        "store": str(root),
        "runs": len(asked.specs),
        "done": len(work.done),
        "missing": len(work.missing),
        "failed": len(work.failed),
        "sharing_stages": work.shared,
        "seconds": work.seconds,
        "bytes": work.bytes,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{asked.name}: {len(asked.specs)} runs, store {root}")
    typer.echo(f"  {len(work.done)} done, {len(work.missing)} missing, {len(work.failed)} failed")
    for field in ("dataset", "model", "recipe", "method", "density", "seed", "control"):
        counts = Counter(_shown(getattr(spec, field)) for spec in asked.specs)
        some = [f"{name} x{n}" for name, n in list(counts.items())[:VALUES_SHOWN]]
        more = [f"and {len(counts) - len(some)} more"] if len(counts) > len(some) else []
        typer.echo(f"  {field:<8} {', '.join(some + more)}")
    typer.echo(f"  {work.shared} missing runs can share parts of their searches")
    if work.seconds is None:
        typer.echo("  time and disk: not known before the store has records to estimate from")
    elif work.missing:
        typer.echo(
            f"  about {work.seconds / 3600:.2f} hours of work in one process and "
            f"{(work.bytes or 0) / 2**20:.1f} MiB, by the means of this store's records"
        )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

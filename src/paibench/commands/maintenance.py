"""Logs of attempts, removal of what is no longer needed, and a report on this machine."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, get_args

import typer

from paibench.commands import options as o
from paibench.commands.listing import broken_reason
from paibench.commands.run import find_run
from paibench.methods.core.registry import SINGULAR, Kind, UserError, is_own, names
from paibench.methods.core.text import printable

PACKAGES = ("paibench", "torch", "torchvision", "timm", "numpy", "pandas", "seaborn", "safetensors")
_DAY = 86_400.0


def logs(key: o.Key, out: o.Stores = None, as_json: o.Json = False) -> None:
    """Show for every attempt at a run what it printed, its progress, and how it ended."""
    from paibench.benchmark.store.progress import read_progress

    store, full_key = find_run(key, out, attempted=True)
    notes = {note.get("attempt"): note for note in store.failures(full_key)}
    folders = {name: store.attempt_folder(full_key, name) for name in store.attempts(full_key)}
    attempts = []
    # By time, because the ids of attempts on several hosts do not sort by time.
    for name in sorted(folders, key=lambda name: folders[name].stat().st_mtime):
        log, note = folders[name] / "log.txt", notes.get(name, {})
        attempts.append(
            {
                "attempt": name,
                "ended": note.get("cause"),
                "reason": note.get("reason"),
                "progress": str(read_progress(folders[name])),
                "path": str(log),
                # A run may print any bytes, and a killed one may stop within a character.
                "log": log.read_text(errors="replace") if log.exists() else "",
            }
        )
    if as_json:
        o.echo_json(attempts)
        return
    for attempt in attempts:
        end = f"{attempt['ended']}: {attempt['reason']}" if attempt["ended"] else "no failure noted"
        typer.echo(f"== {attempt['attempt']}: {end}")
        typer.echo(str(attempt["log"]).rstrip() or "(no output)")
    if not attempts:
        typer.echo(f"{full_key}: has no attempts in this store")


def gc(
    store: o.Store,
    older: Annotated[
        float, typer.Option(min=0.0, help="Age in days of the stages and submissions to remove.")
    ] = 30.0,
    as_json: o.Json = False,
) -> None:
    """Clean a store: leases of dead jobs, unfinished files, old stages and submissions.

    Records, the files beside them and failures stay, and so does everything that is in use.
    """
    from paibench.benchmark.store.gc import remove_old_stages
    from paibench.benchmark.store.store import Store
    from paibench.slurm.cleanup import (
        release_dead_leases,
        remove_old_submissions,
        submitted_specs,
    )
    from paibench.slurm.commands import is_available

    # A misspelt path must not become a new store.
    opened = Store.open(store, create=False)
    # Only SLURM knows which of its jobs have ended.
    released = release_dead_leases(opened, submitted_specs(opened)) if is_available() else {}
    removed = {
        "leases": len(released),
        "unfinished": opened.remove_temporary_files(),
        "stages": remove_old_stages(opened, older * _DAY),
        "submissions": remove_old_submissions(opened, older * _DAY),
    }
    if as_json:
        o.echo_json(removed)
        return
    typer.echo(
        f"{opened.root}: {removed['leases']} leases released; {removed['unfinished']} unfinished "
        f"files, {removed['stages']} stages and {removed['submissions']} submissions removed"
    )


# -- this machine ----------------------------------------------------------------------------------


def doctor(data: o.Data = None, out: o.StoreFolder = None, as_json: o.Json = False) -> None:
    """Report on this machine: versions, devices, cores, sandbox, data, SLURM; try out a store."""
    facts = {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "cores": str(len(os.sched_getaffinity(0))),
        "devices": _devices(),
        "sandbox": _sandbox(),
        "plugins": _plugins(),
        "data folder": _data_folder(data),
        "SLURM": _slurm(),
        "profiles": _profiles(),
        **({"store": _store(out)} if out else {}),
    }
    if as_json:
        o.echo_json(facts)
        return
    for name, fact in facts.items():
        typer.echo(f"{name:<12} {fact}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing; install it"


def _devices() -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"cuda:{n} ({torch.cuda.get_device_name(n)})" for n in range(count)]
    return ", ".join(["cpu", *gpus])


def _sandbox() -> str:
    """Return how this machine isolates third-party methods."""
    from paibench.benchmark.sandbox.parent import isolation_here

    try:
        return ", ".join(isolation_here())
    # The report must not end at the first part that is broken.
    except (OSError, RuntimeError, ValueError) as error:
        return f"does not work: {' '.join(str(error).split())}"


def _plugins() -> str:
    """Return what third parties have registered, and what of it is broken."""
    plugins = []
    for kind in get_args(Kind):
        for name in names(kind):
            reason = broken_reason(name, kind)
            if reason or not is_own(name, kind):
                title = f"{SINGULAR[kind]} {printable(name)}"
                plugins.append(f"{title} is broken: {reason}" if reason else title)
    return "; ".join(plugins) or "none"


def _data_folder(data: Path | None) -> str:
    if data is None:
        return "not given; set PAIBENCH_DATA or --data (digits need none)"
    if not data.is_dir():
        return f"{data} does not exist"
    folders = sorted(path.name for path in data.iterdir() if path.is_dir())
    return f"{data}: {', '.join(folders) or 'empty'}"


def _slurm() -> str:
    from paibench.slurm.commands import is_available, run

    if not is_available():
        return "not found; sweeps run on this machine"
    name = (run("squeue", "--version") or "unknown version").strip()
    # `squeue --version` works without the controller, and sinfo does not.
    answers = run("sinfo", "-h", "-o", "%P") is not None
    return f"{name}, {'it answers' if answers else 'no answer'}"


def _profiles() -> str:
    from paibench.slurm.profile import folder

    names = sorted(path.stem for path in folder().glob("*.toml"))
    return f"{folder()}: {', '.join(names) or 'none'}"


def _store(root: Path) -> str:
    """Return whether runs can be written to a store; a missing folder is not created."""
    from paibench.benchmark.store.atomic import StoreError, supports_links

    # A trial write needs a folder, and the store may not exist yet.
    existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--out {root}: {existing} is not a folder; name one")
    try:
        links = supports_links(existing)
    except StoreError as error:
        raise UserError(f"--out {root}: {error}; name a writable folder") from error
    commits = "hard links work" if links else "no hard links: weaker commits"
    free = shutil.disk_usage(existing).free >> 20
    return f"{root}: can be written, {commits}, {free} MiB free"

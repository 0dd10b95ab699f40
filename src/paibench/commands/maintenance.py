"""Looking into the attempts at a run, and clearing away what nothing needs any more."""

import json
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.commands import options as o
from paibench.commands.options import Data, Json, StoreFolder
from paibench.commands.run import Key, Stores, find_run
from paibench.methods.core.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.store.store import Store


_DAY = 86_400.0


def logs(key: Key, out: Stores = None, as_json: o.Json = False) -> None:
    """What every attempt at a run printed, how far it came, and how it ended."""
    from paibench.benchmark.store.progress import read_progress

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
                "headway": str(read_progress(folder)),
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
        float, typer.Option(min=0.0, help="Days after which stages and submissions go.")
    ] = 30.0,
    as_json: o.Json = False,
) -> None:
    """Clear a store: claims of jobs that are gone, unfinished files, old stages and submissions.

    Records, masks, curves and failures stay. What somebody is at work on stays as well.
    """
    from paibench.benchmark.store.gc import remove_old_stages
    from paibench.benchmark.store.store import Store
    from paibench.slurm.cleanup import release_dead_leases, remove_old_submissions, submitted_specs
    from paibench.slurm.commands import is_available

    given = Store.open(store, create=False)
    freed = release_dead_leases(given, submitted_specs(given)) if is_available() else {}
    removed = {
        "claims": len(freed),
        "unfinished": given.remove_temporary_files(),
        "stages": remove_old_stages(given, older * _DAY),
        "submissions": remove_old_submissions(given, older * _DAY),
    }
    if as_json:
        typer.echo(json.dumps(removed))
        return
    typer.echo(
        f"{given.root}: {removed['claims']} claims freed; {removed['unfinished']} unfinished "
        f"files, {removed['stages']} stages and {removed['submissions']} submissions removed"
    )


def _last_written(store: "Store", key: str, attempt: str) -> float:
    """When an attempt wrote its last, which puts them in order."""
    return store.attempt_folder(key, attempt).stat().st_mtime


# doctor: What this machine offers, and what is missing.

PACKAGES = ("paibench", "torch", "torchvision", "timm", "numpy", "pandas", "seaborn", "safetensors")


def doctor(data: Data = None, out: StoreFolder = None, as_json: Json = False) -> None:
    """Say what is found here: versions, devices, threads, data, SLURM; and try out a store."""
    facts = {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "cores": str(len(os.sched_getaffinity(0))),
        "devices": _devices(),
        "walls": _walls(),
        "data folder": _data_folder(data),
        "SLURM": _slurm(),
        "profiles": _profiles(),
        **({"store": _store(out)} if out else {}),
    }
    if as_json:
        typer.echo(json.dumps(facts))
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
    found = [f"cuda:{n} ({torch.cuda.get_device_name(n)})" for n in range(count)]
    return ", ".join(["cpu", *found])


def _walls() -> str:
    """What stands between a third party's method and the harness on this machine."""
    from paibench.benchmark.sandbox.parent import isolation_here

    try:
        return ", ".join(isolation_here())
    except (OSError, RuntimeError, ValueError) as error:
        return f"cannot be put up: {' '.join(str(error).split())}"


def _data_folder(data: Path | None) -> str:
    if data is None:
        return "not given; set PAIBENCH_DATA or --data (digits need none)"
    if not data.is_dir():
        return f"{data} does not exist"
    held = sorted(path.name for path in data.iterdir() if path.is_dir())
    return f"{data}: {', '.join(held) or 'empty'}"


def _slurm() -> str:
    from paibench.slurm.commands import is_available, run

    if not is_available():
        return "not found; sweeps run on this machine"
    answers = run("squeue", "--version")
    up = run("sinfo", "-h", "-o", "%P") is not None
    return f"{(answers or 'unknown version').strip()}, {'it answers' if up else 'no answer'}"


def _profiles() -> str:
    from paibench.slurm.profile import folder

    found = sorted(path.stem for path in folder().glob("*.toml"))
    return f"{folder()}: {', '.join(found) or 'none'}"


def _store(root: Path) -> str:
    """Whether runs can be written to a store here; a folder that is not there yet is not made."""
    from paibench.benchmark.store.atomic import StoreError, supports_links

    place = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"--out {root}: {place} is no folder; name one")
    try:
        links = "hard links work" if supports_links(place) else "no hard links: weaker commits"
    except StoreError as error:
        raise UserError(f"--out {root}: {error}; name a folder that can be written to") from error
    return f"{root}: can be written, {links}, {shutil.disk_usage(place).free >> 20} MiB free"

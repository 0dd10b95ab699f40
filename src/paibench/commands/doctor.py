"""What this machine offers, and what is missing."""

import json
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from paibench.commands.options import Data, Json, Store
from paibench.methods.registry import UserError

PACKAGES = ("paibench", "torch", "torchvision", "timm", "numpy", "pandas", "seaborn", "safetensors")


def doctor(data: Data = None, out: Store = None, as_json: Json = False) -> None:
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
    from paibench.benchmark.apart.search import walls_here

    try:
        return ", ".join(walls_here())
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
    from paibench.slurm.ask import ask, here

    if not here():
        return "not found; sweeps run on this machine"
    answers = ask("squeue", "--version")
    up = ask("sinfo", "-h", "-o", "%P") is not None
    return f"{(answers or 'unknown version').strip()}, {'it answers' if up else 'no answer'}"


def _profiles() -> str:
    from paibench.slurm.profile import folder

    found = sorted(path.stem for path in folder().glob("*.toml"))
    return f"{folder()}: {', '.join(found) or 'none'}"


def _store(root: Path) -> str:
    """Whether runs can be written to a store here; a folder that is not there yet is not made."""
    from paibench.benchmark.commit import StoreError, takes_links

    place = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"--out {root}: {place} is no folder; name one")
    try:
        links = "hard links work" if takes_links(place) else "no hard links: weaker commits"
    except StoreError as error:
        raise UserError(f"--out {root}: {error}; name a folder that can be written to") from error
    return f"{root}: can be written, {links}, {shutil.disk_usage(place).free >> 20} MiB free"

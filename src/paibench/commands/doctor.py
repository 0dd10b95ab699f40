"""What this machine offers, and what is missing."""

import json
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from paibench.commands.options import Data, Json

PACKAGES = ("paibench", "torch", "torchvision", "timm", "numpy", "pandas", "seaborn", "safetensors")


def doctor(data: Data = None, as_json: Json = False) -> None:
    """Say what is found here: versions, devices, threads, data, SLURM."""
    facts = {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "cores": str(len(os.sched_getaffinity(0))),
        "devices": _devices(),
        "data folder": _data_folder(data),
        "SLURM": shutil.which("sbatch") or "not found; sweeps run on this machine",
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


def _data_folder(data: Path | None) -> str:
    if data is None:
        return "not given; set PAIBENCH_DATA or --data (digits need none)"
    if not data.is_dir():
        return f"{data} does not exist"
    held = sorted(path.name for path in data.iterdir() if path.is_dir())
    return f"{data}: {', '.join(held) or 'empty'}"

"""Where and with what a record was made."""

import hashlib
import os
import platform
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from paibench.benchmark.checkout import code_at_start, commit, output
from paibench.benchmark.record import Environment
from paibench.methods.registry import find


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment(method: str, device: torch.device, started: str) -> Environment:
    """Everything about this process that a reader of its record may want to know."""
    head, dirty = commit()
    plugin = find(method).dist
    return Environment(
        started=started,
        finished=now(),
        host=socket.gethostname(),
        device=_device_name(device),
        threads=torch.get_num_threads(),
        paibench=version("paibench"),
        commit=head,
        dirty=dirty,
        python=platform.python_version(),
        torch=torch.__version__,
        timm=_version("timm"),
        cuda=torch.version.cuda if device.type == "cuda" else None,
        driver=_driver() if device.type == "cuda" else None,
        plugin=plugin.name if plugin else "unknown",
        plugin_version=plugin.version if plugin else "unknown",
        slurm_job=os.environ.get("SLURM_JOB_ID"),
    )


def code_of(method: str) -> str:
    """The code that finds a method's masks: versions, and the digests of the whole package and of
    the method's own file.
    """
    entry = find(method)
    plugin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    source = Path(str(sys.modules[entry.load().__module__].__file__)).read_bytes()
    ours = f"paibench {version('paibench')} {code_at_start()}"
    return f"{ours}, {plugin}, {hashlib.sha256(source).hexdigest()}"


def kind_of_place(device: torch.device) -> str:
    """What the last bits of a training depend on besides its arguments, as one line."""
    cuda = f" cuda {torch.version.cuda}" if device.type == "cuda" else ""
    return f"{_device_name(device)} {torch.get_num_threads()} torch {torch.__version__}{cuda}"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of named tensors: names, types, shapes and bytes, in the order of the names."""
    seen = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        seen.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        seen.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def _driver() -> str | None:
    query = ("--query-gpu=driver_version", "--format=csv,noheader")
    return (output("nvidia-smi", *query) or "").split("\n")[0] or None


@cache
def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _cpu_name()

"""The environment of a record: machine, versions, code and third-party packages."""

import os
import platform
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from paibench.benchmark.provenance import (
    code_digest_at_start,
    code_sha256,
    command_output,
    commit,
    distribution,
    install_source,
    third_party,
)
from paibench.benchmark.record import Environment
from paibench.benchmark.spec import Spec
from paibench.methods.core.registry import is_own


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment(
    spec: Spec, device: torch.device, started: str, isolation: str | None = None
) -> Environment:
    """Return everything about this process that a reader of its record may want to know."""
    head, dirty = commit()
    plugin, plugin_version = distribution(spec.method.name)
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
        plugin=plugin,
        plugin_version=plugin_version,
        # `commit` and `paibench` already identify the code of the suite's own methods
        plugin_origin=None if is_own(spec.method.name) else install_source(spec.method.name),
        plugin_sha256=None if is_own(spec.method.name) else code_sha256(spec.method.name),
        other_plugins="; ".join(_other_plugins(spec)) or None,
        isolation=isolation,
        slurm_job=os.environ.get("SLURM_JOB_ID"),
    )


def _other_plugins(spec: Spec) -> Iterator[str]:
    """Yield the third-party packages of the data set, the model and the recipe."""
    for kind, name in third_party(spec):
        yield f"{name}: {' '.join(distribution(name, kind))}"


def code_of(method: str) -> str:
    """Return what identifies the code of a method: versions and digests of the package, and of the
    third-party package if the method comes from one. Nothing is imported.
    """
    # a third-party method uses code of the suite too, such as its training loop
    ours = f"paibench {version('paibench')} {code_digest_at_start()}"
    if is_own(method):
        return ours
    return f"{ours}, {' '.join(distribution(method))} {code_sha256(method)}"


def machine_kind(device: torch.device) -> str:
    """Return one line with all that changes the last bits of a training besides its arguments."""
    cuda = f" cuda {torch.version.cuda}" if device.type == "cuda" else ""
    # the number of threads determines the order in which sums are computed
    return f"{_device_name(device)} {torch.get_num_threads()} torch {torch.__version__}{cuda}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def _driver() -> str | None:
    query = ("--query-gpu=driver_version", "--format=csv,noheader")
    # nvidia-smi prints one line per GPU, and all GPUs share one driver
    return (command_output("nvidia-smi", *query) or "").split("\n")[0] or None


@cache
def _cpu_name() -> str:
    # on Linux, platform.processor() is often empty and never names the model
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _cpu_name()

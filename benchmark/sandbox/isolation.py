"""Isolation of a sandbox: its own folder, resource limits, and what the kernel offers."""

import os
import resource
import sys
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from paibench.benchmark.execution.memory import limit_memory
from paibench.benchmark.sandbox import landlock, namespaces

_SHARED = 1 << 30  # bytes of its own shared memory, for the helpers that read images
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/sys", "/opt")
_SETTINGS = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "os-release"),
    *("nsswitch.conf", "alternatives", "mime.types", "OpenCL", "vulkan"),
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
_PROCESS = ("cpuinfo", "meminfo", "stat", "filesystems", "devices", "modules", "sys", "driver")


@dataclass(frozen=True)
class ResourceLimits:
    """What one search may use at most; `silence` is the longest time without a sign of life."""

    seconds: float = 86_400.0
    silence: float = 1_800.0
    memory_mb: int = 8_192
    disk_mb: int = 1_024
    processes: int = 1_024


def isolate(
    folder: Path,
    readable: Collection[Path],
    hidden: Collection[Path],
    limits: ResourceLimits,
    device: str,
) -> list[str]:
    """Isolate everything that runs from here on, in a fork; return what isolates it, in words.

    The process may write to `folder`, which becomes the current one, and read `readable` and the
    libraries of the system and of Python, but nothing in `hidden`. It must have one thread only.
    """
    always = ["process", "folder", "limits"]
    spaces = namespaces.enter()
    namespaces.fork_and_reap()
    own_mounts, own_processes = namespaces.MOUNT in spaces, namespaces.PID in spaces
    if own_mounts:
        covered = [path for path in hidden if not _needed(path, folder, readable)]
        own_processes &= namespaces.remount(covered, _SHARED, limits.processes)
    if namespaces.PID in spaces:
        namespaces.fork_and_reap()  # the first process of a PID namespace would ignore signals
    os.chdir(folder)
    _limit(limits, device, own_user=namespaces.USER in spaces)
    allowed = landlock.rules_except([*readable, *_libraries()], hidden)
    allowed |= dict(_of_the_system(own_processes, own_mounts, device))
    version = landlock.restrict(allowed | {folder: landlock.ALL})
    return [*always, *spaces, *([f"landlock {version}"] if version else [])]


def _needed(hidden: Path, folder: Path, readable: Collection[Path]) -> bool:
    """Whether a hidden folder contains needed files, so that no mount can cover it."""
    return any(path.is_relative_to(hidden) for path in (folder, *readable, *_libraries()))


def _limit(limits: ResourceLimits, device: str, *, own_user: bool) -> None:
    if device == "cpu":
        limit_memory(limits.memory_mb)
    _lower(resource.RLIMIT_FSIZE, limits.disk_mb << 20)
    _lower(resource.RLIMIT_CORE, 0)
    if own_user:  # otherwise the limit counts all processes of this user on the machine
        _lower(resource.RLIMIT_NPROC, limits.processes)


def _lower(kind: int, to: int) -> None:
    _, hard = resource.getrlimit(kind)
    to = to if hard == resource.RLIM_INFINITY else min(to, hard)
    resource.setrlimit(kind, (to, to))


def _libraries() -> Iterator[Path]:
    """Yield the folders of Python and of everything it imports."""
    yield from {Path(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    yield from (Path(path) for path in sysconfig.get_paths().values())
    yield from (Path(path).absolute() for path in sys.path if path)
    yield from (Path(path) for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path)
    package = find_spec("paibench")
    for location in package.submodule_search_locations or () if package else ():
        yield Path(location)
        # in a checkout the folders of the package are links to the root of the repository
        yield from (path.resolve() for path in Path(location).iterdir() if path.is_symlink())


def _of_the_system(
    own_processes: bool, own_mounts: bool, device: str
) -> Iterator[tuple[Path, int]]:
    for folder in _SYSTEM:
        yield Path(folder).resolve(), landlock.READ
    for name in _SETTINGS:
        yield Path("/etc", name), landlock.READ
    for name in _DEVICES:
        yield Path("/dev", name), landlock.USE
    if device != "cpu":
        for path in (*Path("/dev").glob("nvidia*"), Path("/dev/dri"), Path("/dev/kfd")):
            yield path, landlock.USE | landlock.LIST
    if own_mounts:
        yield Path("/dev/shm"), landlock.ALL
    if own_processes:
        yield Path("/proc"), landlock.READ
        return
    yield Path("/proc/self").resolve(), landlock.READ
    for name in _PROCESS:
        yield Path("/proc", name), landlock.READ

"""Watching over a process that is not trusted: what it uses, what it prints, and its end."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

from paibench.benchmark.execution.memory import memory_kills
from paibench.benchmark.execution.process_tree import child_environment, kill_tree, tree
from paibench.benchmark.execution.worker_process import LOG_LIMIT, describe_exit
from paibench.benchmark.sandbox.isolation import ResourceLimits
from paibench.benchmark.sandbox.namespaces import set_dumpable
from paibench.benchmark.steps.search import MethodError

LOOK_SECONDS = 0.5
_END_SECONDS = 2.0  # in which a process that closed its channel is to be gone
_MOST_FILES = 20_000


@dataclass
class SandboxProcess:
    """A process with a folder of its own, and what it may use."""

    process: subprocess.Popen[bytes]
    folder: Path
    limits: ResourceLimits
    peak_mb: float = 0.0
    """The most memory that was seen of it and of all that it started."""
    _kills: int = field(default_factory=memory_kills)
    _looked: float = 0.0

    def look(self) -> None:
        """See what it uses, not more often than now and then.

        Raises MemoryError or MethodError where that is too much.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        pids = tree(self.process.pid)
        if len(pids) > self.limits.processes:
            raise MethodError(f"it started more than {self.limits.processes} processes")
        held = sum(map(_held_mb, pids))
        if held > self.limits.memory_mb:  # forks count what they share, each for itself
            held = sum(map(_share_mb, pids))
        self.peak_mb = max(self.peak_mb, held)
        if held > self.limits.memory_mb:
            raise MemoryError(f"the search held {held:.0f} MiB of {self.limits.memory_mb}")
        if _size_mb(self.folder) > self.limits.disk_mb:
            raise MethodError(f"it wrote more than {self.limits.disk_mb} MiB to its folder")

    def why(self) -> Exception:
        """What is to be said of a process that said no more."""
        try:
            code = self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return MethodError("it closed its channel, and handed nothing back")
        code = 128 - code if code > 128 else code
        if code == -signal.SIGKILL and memory_kills() > self._kills:
            return MemoryError("the system killed the search for want of memory")
        if code == -signal.SIGXFSZ:
            return MethodError(f"it wrote a file of more than {self.limits.disk_mb} MiB")
        if code < 0:
            return MethodError(f"its process ended with {describe_exit(code)}")
        return MethodError(f"its process ended with {describe_exit(code)}, and handed nothing back")

    def end(self) -> None:
        """Kill it with all that it started."""
        kill_tree(self.process.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def sandbox_process(
    arguments: Sequence[str], descriptors: Sequence[int], threads: int, limits: ResourceLimits
) -> Iterator[SandboxProcess]:
    """A process of Python in a folder of its own, with these open files and little else.

    What it prints goes to our standard error, up to a limit and as plain text. Afterwards nothing
    is left of it.
    """
    folder = Path(tempfile.mkdtemp(prefix="paibench-")).resolve()
    process = subprocess.Popen(
        # -P: files in the present folder are not to be taken for modules
        [sys.executable, "-P", "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(threads, folder),
        cwd=folder,
        pass_fds=descriptors,
        process_group=0,
    )
    assert process.stdout is not None
    prints = Thread(target=_pass_on, args=(process.stdout,), daemon=True)
    prints.start()
    guard = SandboxProcess(process, folder, limits)
    set_dumpable(True)  # where there is no other wall, this one keeps it out of our memory
    try:
        yield guard
    finally:
        set_dumpable(False)
        guard.end()
        prints.join(_END_SECONDS)
        _remove(folder)


def _environment(threads: int, folder: Path) -> dict[str, str]:
    environment = child_environment(threads) | {"HOME": str(folder), "TMPDIR": str(folder)}
    return {name: environment[name] for name in environment.keys() - {"USER", "SLURM_JOB_ID"}}


def _pass_on(pipe: IO[bytes]) -> None:
    """Print what comes as plain text, and read on after the limit."""
    left, dropped = LOG_LIMIT, 0
    with pipe:
        while came := os.read(pipe.fileno(), 1 << 16):
            shown, left = came[:left], max(left - len(came), 0)
            dropped += len(came) - len(shown)
            _print(shown)
    if dropped:
        _print(f"paibench: {dropped} more bytes of prints were dropped\n".encode())


def _print(data: bytes) -> None:
    text = data.decode(errors="replace")
    plain = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    with suppress(OSError):
        os.write(2, plain.encode())


def _held_mb(pid: int) -> float:
    """MiB of a process's own memory, and of what it shares without a file, lent data included."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        kinds = re.findall(r"^(?:RssAnon|RssShmem):\s*(\d+) kB", text, re.MULTILINE)
        return sum(map(int, kinds)) / 1024
    return 0.0


def _share_mb(pid: int) -> float:
    """The same, of what several share their part alone."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kinds = re.findall(r"^(?:Pss_Anon|Pss_Shmem):\s*(\d+) kB", text, re.MULTILINE)
        return sum(map(int, kinds)) / 1024
    return _held_mb(pid)


def _size_mb(folder: Path) -> float:
    """MiB of all files below a folder; of too many, no end."""
    held = count = 0
    for place, _, names in os.walk(folder):
        count += len(names) + 1
        if count > _MOST_FILES:
            return float("inf")
        for name in names:
            with suppress(OSError):
                held += os.lstat(os.path.join(place, name)).st_blocks * 512
    return held / 2**20


def _remove(folder: Path) -> None:
    """Remove a folder, whatever rights were taken from what lies in it."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            with suppress(OSError):
                path = os.path.join(place, name)
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)

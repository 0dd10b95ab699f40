"""The process of a sandbox: its limits, its printed output, and its end."""

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
from paibench.benchmark.steps.blame import MethodError

CHECK_SECONDS = 0.5
_EXIT_SECONDS = 2.0  # a process that closed its channel must exit within this time
_MOST_FILES = 20_000


@dataclass
class SandboxProcess:
    """A running sandbox with its own folder and its limits."""

    process: subprocess.Popen[bytes]
    folder: Path
    limits: ResourceLimits
    peak_mb: float = 0.0
    """The most memory seen in use by it and its descendants."""
    _kills: int = field(default_factory=memory_kills)
    _checked: float = 0.0

    def check_limits(self) -> None:
        """Check the resources at most twice a second. Raises MemoryError or MethodError."""
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        pids = tree(self.process.pid)
        if len(pids) > self.limits.processes:
            raise MethodError(f"it started more than {self.limits.processes} processes")
        used_mb = sum(map(_private_mb, pids))
        if used_mb > self.limits.memory_mb:  # each fork counts the pages that it shares with others
            used_mb = sum(map(_proportional_mb, pids))
        self.peak_mb = max(self.peak_mb, used_mb)
        if used_mb > self.limits.memory_mb:
            raise MemoryError(f"the search held {used_mb:.0f} MiB of {self.limits.memory_mb}")
        if _size_mb(self.folder) > self.limits.disk_mb:
            raise MethodError(f"it wrote more than {self.limits.disk_mb} MiB to its folder")

    def exit_error(self) -> Exception:
        """Return the error for a process that exited or closed its channel without a result."""
        try:
            code = self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return MethodError("it closed its channel, and handed nothing back")
        # `namespaces.fork_and_reap` passes a signal on as 128 and its number
        code = 128 - code if code > 128 else code
        if code == -signal.SIGKILL and memory_kills() > self._kills:
            return MemoryError("the system killed the search because memory ran out")
        if code == -signal.SIGXFSZ:
            return MethodError(f"it wrote a file of more than {self.limits.disk_mb} MiB")
        if code < 0:
            return MethodError(f"its process ended with {describe_exit(code)}")
        return MethodError(f"its process ended with {describe_exit(code)}, and handed nothing back")

    def kill(self) -> None:
        """Kill it with all its descendants."""
        kill_tree(self.process.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def sandbox_process(
    arguments: Sequence[str], descriptors: Sequence[int], threads: int, limits: ResourceLimits
) -> Iterator[SandboxProcess]:
    """Run a Python module in its own folder, with these open files and few variables.

    Its output goes to our standard error, up to a limit and as plain text. At the end of the block
    the process, its descendants and its folder are removed.
    """
    folder = Path(tempfile.mkdtemp(prefix="paibench-")).resolve()
    process = subprocess.Popen(
        # -P: a file in the current folder must not shadow a module
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
    output = Thread(target=_forward_output, args=(process.stdout,), daemon=True)
    output.start()
    sandbox = SandboxProcess(process, folder, limits)
    set_dumpable(False)  # without Landlock, this alone keeps the sandbox out of our memory
    try:
        yield sandbox
    finally:
        set_dumpable(True)
        sandbox.kill()
        output.join(_EXIT_SECONDS)
        _remove(folder)


def _environment(threads: int, folder: Path) -> dict[str, str]:
    environment = child_environment(threads) | {"HOME": str(folder), "TMPDIR": str(folder)}
    return {name: environment[name] for name in environment.keys() - {"USER", "SLURM_JOB_ID"}}


def _forward_output(pipe: IO[bytes]) -> None:
    """Print the output as plain text; after the limit, drop it but read on."""
    left, dropped = LOG_LIMIT, 0
    with pipe:
        # a full pipe would block the method
        while data := os.read(pipe.fileno(), 1 << 16):
            printed, left = data[:left], max(left - len(data), 0)
            dropped += len(data) - len(printed)
            _print(printed)
    if dropped:
        _print(f"paibench: {dropped} more bytes of output were dropped\n".encode())


def _print(data: bytes) -> None:
    text = data.decode(errors="replace")
    plain = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    with suppress(OSError):
        os.write(2, plain.encode())


def _private_mb(pid: int) -> float:
    """Return the MiB of a process's private and shared memory, the training data included."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        kinds = re.findall(r"^(?:RssAnon|RssShmem):\s*(\d+) kB", text, re.MULTILINE)
        return sum(map(int, kinds)) / 1024
    return 0.0


def _proportional_mb(pid: int) -> float:
    """Return the same, but divide shared pages by the number of processes that share them."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kinds = re.findall(r"^(?:Pss_Anon|Pss_Shmem):\s*(\d+) kB", text, re.MULTILINE)
        return sum(map(int, kinds)) / 1024
    return _private_mb(pid)


def _size_mb(folder: Path) -> float:
    """Return the MiB of all files below a folder; infinity for too many files."""
    used_bytes = count = 0
    for parent, _, names in os.walk(folder):
        count += len(names) + 1
        if count > _MOST_FILES:
            return float("inf")
        for name in names:
            with suppress(OSError):
                # blocks, because a sparse file uses less disk space than its size says
                used_bytes += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return used_bytes / 2**20


def _remove(folder: Path) -> None:
    """Remove a folder, even if the method removed permissions inside it."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            with suppress(OSError):
                path = os.path.join(parent, name)
                # chmod follows links, and a link may lead out of the folder
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)

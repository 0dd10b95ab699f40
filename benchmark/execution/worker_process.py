"""Parent-side handle of a worker: settings and runs go in, events and printed output come out."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from paibench.benchmark.execution.memory import memory_kills
from paibench.benchmark.execution.process_tree import child_environment
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.failures import Cause

BLOCKED_SIGNALS = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
"""Signals that would kill a worker before it has installed its handlers."""

EXIT_INTERRUPTED = 128 + signal.SIGTERM
"""The exit status of a worker that stopped because it was asked to."""

LOG_LIMIT = 2**20  # bytes of output that one run may add to its log
_LAST_OUTPUT = 1024  # bytes
_PIPE_SIZE = 1 << 16
_EXIT_SECONDS = 5.0  # a worker that closed its pipes must exit within this time


@dataclass(eq=False)
class Worker:
    """One child process, whether it is ready, and the run that it executes."""

    process: subprocess.Popen[bytes]
    gpu: str | None = None
    ready: bool = False
    spec: Spec | None = None
    attempt: str = ""
    last_output: bytes = b""
    _started: float = field(default_factory=time.monotonic)
    _partial_line: bytes = b""
    _logged: int = 0

    @classmethod
    def start(cls, store: Path, settings: RunSettings, gpu: str | None = None) -> "Worker":
        """Start a process in its own group, with its share of the cores and one GPU."""
        # the child inherits the blocked signals, so none is lost before its handlers are installed
        before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
        try:
            process = subprocess.Popen(
                # -P: a file in the current folder must not shadow a module
                [sys.executable, "-P", "-m", "paibench.benchmark.execution.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=child_environment(settings.threads)
                | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}),
                process_group=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        worker = cls(process, gpu)
        for pipe in worker.pipes:
            os.set_blocking(pipe.fileno(), False)
        worker._send(store=str(store), settings=settings.to_json())
        return worker

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """The pipes of its events and of its printed output."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        return self.process.stdout, self.process.stderr

    @property
    def seconds(self) -> float:
        """Time since the current run was assigned."""
        return time.monotonic() - self._started

    def assign(self, spec: Spec, attempt: str) -> None:
        """Tell the worker to execute a run."""
        self.spec, self.attempt = spec, attempt
        self._started, self._logged = time.monotonic(), 0
        self._send(spec=spec.canonical, attempt=attempt)

    def _send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the pool is about to notice that the worker died
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def events(self) -> list[dict[str, Any]] | None:
        """Return the events since the last call, or None if the worker closed this pipe."""
        data = _read(self.pipes[0])
        if data == b"":
            return None
        *lines, self._partial_line = (self._partial_line + (data or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def log_output(self, log: Path) -> bool:
        """Append new printed output to the log, up to a limit; False if the pipe is closed."""
        output = _read(self.pipes[1])
        self.last_output = (self.last_output + (output or b""))[-_LAST_OUTPUT:]
        room = max(LOG_LIMIT - self._logged, 0)
        self._logged += len(output or b"")
        if output and room:
            with suppress(OSError):  # the runs themselves report a full disk
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "ab") as file:
                    file.write(output[:room])
        return output != b""

    def wait(self) -> int:
        """Wait for a process that is about to exit, kill it if it does not; its exit code."""
        try:
            return self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        """Kill the process with its whole group, and close its pipes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        for pipe in (*self.pipes, self.process.stdin):
            with suppress(BrokenPipeError):
                pipe.close()


def _read(pipe: IO[bytes]) -> bytes | None:
    """Return what a pipe holds now: None if that is nothing, b"" at its end."""
    try:
        return os.read(pipe.fileno(), _PIPE_SIZE)
    except BlockingIOError:
        return None


@dataclass
class ExitReasons:
    """Explains the exit codes of workers, one after the other."""

    _kills: int = field(default_factory=memory_kills)

    def explain(self, code: int) -> tuple[Cause, str]:
        """Return the cause of a worker's exit, and one line about it."""
        reason = f"its worker ended with {describe_exit(code)}"
        if code == EXIT_INTERRUPTED:
            return "killed", f"{reason}: it was asked to stop"
        if code >= 0:  # a method that exits would exit again
            return "error", reason + (" but left no record" if code == 0 else "")
        if -code not in (signal.SIGKILL, signal.SIGTERM):
            return "crashed", reason
        # only the kernel's counter tells its own kills from those of an operator
        before, self._kills = self._kills, memory_kills()
        if self._kills > before:
            return "memory", f"{reason}: the system killed it because memory ran out"
        hint = "; the system kills processes when memory runs out"
        return "killed", reason + (hint if code == -signal.SIGKILL else "")


def describe_exit(code: int) -> str:
    """Return an exit code in words."""
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

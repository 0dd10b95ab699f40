"""A worker process as its pool sees it: orders go in, events come out, prints are set aside."""

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

from paibench.benchmark.spec import Spec

BLOCKED_SIGNALS = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
"""Signals that would end a worker which does not listen yet."""

EXIT_INTERRUPTED = 128 + signal.SIGTERM
"""The exit status of a worker that was told to leave, and did."""

LOG_LIMIT = 2**20  # bytes that the prints of one run may add to the log
_LAST = 1024  # bytes of its last words
_PIPE = 1 << 16  # all that a pipe can hold
_HANDED_ON = (
    *("PATH", "HOME", "USER", "LANG", "TMPDIR"),
    *("LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"),
)
_PATIENCE = 2.0  # seconds in which a worker that closed its pipes is to end


@dataclass(eq=False)
class Worker:
    """One child process, whether it is ready for orders, and the run that it is at."""

    process: subprocess.Popen[bytes]
    gpu: str | None = None
    ready: bool = False
    spec: Spec | None = None
    attempt: str = ""
    last_words: bytes = b""
    _since: float = field(default_factory=time.monotonic)
    _heard: bytes = b""
    _printed: int = 0

    @classmethod
    def hire(cls, arguments: list[str], threads: int, gpu: str | None = None) -> "Worker":
        """Start a process, in a group of its own, with its share of the cores and one GPU."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
        try:
            process = subprocess.Popen(
                # -P: files in the present folder are not to be taken for modules
                [sys.executable, "-P", "-m", "paibench.benchmark.execution.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=worker_environment(threads) | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}),
                process_group=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        worker = cls(process, gpu)
        for pipe in worker.pipes:
            os.set_blocking(pipe.fileno(), False)
        return worker

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Where its events and its prints come from."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        return self.process.stdout, self.process.stderr

    @property
    def seconds(self) -> float:
        """How long the present run has taken."""
        return time.monotonic() - self._since

    def give(self, spec: Spec, attempt: str) -> None:
        """Order a run."""
        self.spec, self.attempt = spec, attempt
        self._since, self._printed = time.monotonic(), 0
        order = {"spec": spec.canonical, "attempt": attempt}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died, as its pool is about to find out
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()

    def events(self) -> list[dict[str, Any]] | None:
        """What it has said since the last time; None when it has closed this pipe."""
        said = _read(self.pipes[0])
        if said == b"":
            return None
        *lines, self._heard = (self._heard + (said or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def keep_prints(self, log: Path) -> bool:
        """Add what it has printed to the log, up to a limit; False when it closed this pipe."""
        printed = _read(self.pipes[1])
        self.last_words = (self.last_words + (printed or b""))[-_LAST:]
        room = max(LOG_LIMIT - self._printed, 0)
        self._printed += len(printed or b"")
        if printed and room:
            with suppress(OSError):  # a full disk is the runs' to report
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "ab") as file:
                    file.write(printed[:room])
        return printed != b""

    def end(self) -> int:
        """Wait for a process that is about to end, kill it where it does not; its exit code."""
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def dismiss(self) -> None:
        """End the process and all that it started, and close its pipes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        for pipe in (*self.pipes, self.process.stdin):
            with suppress(BrokenPipeError):
                pipe.close()


def _read(pipe: IO[bytes]) -> bytes | None:
    """What a pipe holds now, None where that is nothing, b"" at its end."""
    try:
        return os.read(pipe.fileno(), _PIPE)
    except BlockingIOError:
        return None


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of a worker: what Python and CUDA need of ours, and nothing else of it.

    Methods run in a worker, and keys and tokens of a login shell are none of their business.
    """
    given = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    share = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**given, **share, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

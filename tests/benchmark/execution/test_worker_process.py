"""A worker process as its pool sees it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.execution.worker_process import LOG_LIMIT, Worker
from paibench.benchmark.store.store import Store


@pytest.fixture
def broken_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation in which importing torch prints a lot and fails."""
    (tmp_path / "torch").mkdir()
    code = (
        f"import sys\nprint('x' * {2 * LOG_LIMIT}, file=sys.stderr)\nraise ImportError('no torch')"
    )
    (tmp_path / "torch" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def worker(broken_torch: None, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker.start(Store.open(tmp_path / "store").root, RunSettings(threads=3))
    yield worker
    worker.kill()


def test_prints_are_kept_up_to_a_limit(worker: Worker, tmp_path: Path) -> None:
    """The log takes a megabyte of a run's prints; the last words are known all the same."""
    log = tmp_path / "workers.log"
    deadline = time.monotonic() + 60
    while worker.log_output(log):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert worker.wait() == 1
    assert log.stat().st_size == LOG_LIMIT
    assert worker.last_output.rstrip().endswith(b"ImportError: no torch")
    assert worker.events() is None


def test_a_log_that_cannot_be_written(worker: Worker, tmp_path: Path) -> None:
    """Prints that cannot be kept are dropped, and the worker is not held up."""
    while worker.log_output(tmp_path / "no" / "such" / "folder"):
        time.sleep(0.001)
    assert worker.wait() == 1


def test_killed(worker: Worker) -> None:
    """A dismissed worker is gone, with its whole group, and has been waited for."""
    worker.kill()
    assert worker.process.returncode is not None
    assert not os.path.exists(f"/proc/{worker.process.pid}")
    with pytest.raises(ProcessLookupError):
        os.killpg(worker.process.pid, 0)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.4, 1.0])
def test_told_to_leave_before_it_is_ready(tmp_path: Path, seconds: float) -> None:
    """A worker that has hardly begun hears the signal all the same, and leaves as a ready one."""
    worker = Worker.start(Store.open(tmp_path / "store").root, RunSettings(threads=1))
    time.sleep(seconds)
    worker.process.terminate()
    assert worker.process.wait(60) == 128 + signal.SIGTERM
    assert worker.log_output(tmp_path / "log") is False
    assert worker.last_output == b""
    worker.kill()


def test_hiring_holds_back_no_signal_of_ours(tmp_path: Path) -> None:
    """Signals wait for the worker alone: this process blocks none afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    worker = Worker.start(tmp_path, RunSettings())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    worker.kill()


def test_secrets_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's environment has at most a dozen names, and none that nobody thought of."""
    for name in ("API_KEY", "SLURM_JWT", "SSH_AUTH_SOCK", "GITHUB_TOKEN", "LD_PRELOAD_KEY"):
        monkeypatch.setenv(name, "a secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker.start(Store.open(tmp_path / "store").root, RunSettings(threads=3))
    environ = Path(f"/proc/{worker.process.pid}/environ")
    while not (given := environ.read_bytes()):  # one that was just started has none yet
        time.sleep(0.01)
    worker.kill()
    there = dict(entry.split("=", 1) for entry in given.decode().rstrip("\0").split("\0"))
    assert "a secret" not in there.values()
    assert len(there) <= 12
    assert (there["OMP_NUM_THREADS"], there["PYTHONPATH"]) == ("3", str(tmp_path))

"""A worker process as its pool sees it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paibench.benchmark.hired import PRINTED, Worker
from paibench.benchmark.store import Store


@pytest.fixture
def broken_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation in which importing torch prints a lot and fails."""
    (tmp_path / "torch").mkdir()
    code = f"import sys\nprint('x' * {2 * PRINTED}, file=sys.stderr)\nraise ImportError('no torch')"
    (tmp_path / "torch" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def worker(broken_torch: None, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker.hire(["--store", str(Store.open(tmp_path / "store").root)], threads=3)
    yield worker
    worker.dismiss()


def test_prints_are_kept_up_to_a_limit(worker: Worker, tmp_path: Path) -> None:
    """The log takes a megabyte of a run's prints; the last words are known all the same."""
    log = tmp_path / "workers.log"
    deadline = time.monotonic() + 60
    while worker.keep_prints(log):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert worker.end() == 1
    assert log.stat().st_size == PRINTED
    assert worker.last_words.rstrip().endswith(b"ImportError: no torch")
    assert worker.events() is None


def test_a_log_that_cannot_be_written(worker: Worker, tmp_path: Path) -> None:
    """Prints that cannot be kept are dropped, and the worker is not held up."""
    while worker.keep_prints(tmp_path / "no" / "such" / "folder"):
        time.sleep(0.001)
    assert worker.end() == 1


def test_dismissed(worker: Worker) -> None:
    """A dismissed worker is gone, with its whole group, and has been waited for."""
    worker.dismiss()
    assert worker.process.returncode is not None
    assert not os.path.exists(f"/proc/{worker.process.pid}")
    with pytest.raises(ProcessLookupError):
        os.killpg(worker.process.pid, 0)

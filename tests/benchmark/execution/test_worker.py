"""The worker process by itself: orders, events, threads, signals."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import factories
import pytest

from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.progress import read_progress
from paibench.benchmark.store.store import Store

pytestmark = pytest.mark.usefixtures("hostile")
LEFT = 128 + signal.SIGTERM  # the exit status of who leaves


@pytest.fixture
def worker(store: Store, hostile: None) -> Iterator[subprocess.Popen[str]]:
    """A worker with two threads to a run, which saves no training by itself."""
    command = [sys.executable, "-m", "paibench.benchmark.execution.worker"]
    settings = RunSettings(trusted=True, threads=2, checkpoint_seconds=3600)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        send(process, store=str(store.root), settings=settings.to_json())
        yield process
        process.kill()


def spec_of(method: Any = "random", **fields: Any) -> Spec:
    return factories.spec_of(method, dataset={"name": "digits", "examples": 200}, **fields)


def send(worker: subprocess.Popen[str], **message: Any) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(message) + "\n")
    worker.stdin.flush()


def order(worker: subprocess.Popen[str], spec: Spec, attempt: str) -> None:
    send(worker, spec=spec.canonical, attempt=attempt)


def said(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """The next event, other than signs of life."""
    assert worker.stdout is not None
    event: dict[str, Any] = json.loads(worker.stdout.readline())
    return said(worker) if event["event"] == "alive" else event


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_left(worker: subprocess.Popen[str], store: Store) -> bool:
    """Whether it ends as one that leaves, and holds no run any more."""
    return worker.wait(60) == LEFT and not list(store.root.rglob("claim"))


def test_a_life(worker: subprocess.Popen[str], store: Store) -> None:
    """It says when it is ready, what became of each order, is deaf to Ctrl-C and to the end of a
    job's time, and keeps its training when it is told to leave.
    """
    assert said(worker) == {"event": "ready"}
    good, bad, long = (
        spec_of(),
        spec_of({"name": "imp", "rewind_epoch": 99.0}),
        spec_of(recipe={"name": "lite", "epochs": 100_000}),
    )
    order(worker, good, "first")
    assert said(worker) == {"event": "finished", "result": "done"}
    assert store.attempts(good.key) == ["first"]
    assert store.read_record(good.key)["environment"]["threads"] == 2

    order(worker, bad, "second")
    failure = said(worker)
    assert (failure["event"], failure["cause"]) == ("failed", "input")
    assert failure["reason"].startswith("imp: rewind_epoch = 99.0 is out of range")
    order(worker, good, "third")
    assert said(worker) == {"event": "finished", "result": "already"}

    order(worker, long, "fourth")
    folder = store.attempt_folder(long.key, "fourth")
    wait_for(lambda: read_progress(folder).step > 0)
    for ignored in (signal.SIGINT, signal.SIGUSR2):
        worker.send_signal(ignored)
    seen = read_progress(folder).step
    wait_for(lambda: read_progress(folder).step > seen)
    assert worker.poll() is None
    assert (store.run_folder(long.key) / "claim").exists()
    assert not list(store.run_folder(long.key).glob("checkpoints/*/*"))
    worker.terminate()
    assert has_left(worker, store)
    assert list(store.run_folder(long.key).glob("checkpoints/*/*.pt"))
    assert store.failures(long.key) == []
    assert store.listing().failed == {bad.key}
    assert worker.stderr is not None
    errors = worker.stderr.read()
    assert errors.count("Traceback") == 1  # that of the run that failed
    assert "UserError" in errors


def test_idle(worker: subprocess.Popen[str], store: Store) -> None:
    """A worker that waits for orders leaves at once, and without a word."""
    assert said(worker) == {"event": "ready"}
    worker.terminate()
    assert has_left(worker, store)
    assert worker.stderr is not None
    assert worker.stderr.read() == ""


@pytest.mark.slow
def test_hanging(worker: subprocess.Popen[str], store: Store) -> None:
    """One that hangs in a step, and hears no request, leaves when it is told to at once."""
    spec = spec_of("hangs")
    order(worker, spec, "first")
    status = Path(f"/proc/{worker.pid}/status")

    def is_deaf() -> bool:
        ignored = re.search(r"^SigIgn:\s*(\w+)", status.read_text(), re.MULTILINE)
        return ignored is not None and bool(int(ignored[1], 16) >> signal.SIGTERM - 1 & 1)

    wait_for(is_deaf)
    worker.terminate()
    worker.send_signal(signal.SIGUSR2)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.3)
    assert (store.run_folder(spec.key) / "claim").exists()
    worker.send_signal(signal.SIGUSR1)
    assert has_left(worker, store)
    assert store.failures(spec.key) == []


def test_without_a_store(tmp_path: Path) -> None:
    """Without a store it ends, and the last thing that it says is why."""
    command = [sys.executable, "-m", "paibench.benchmark.execution.worker"]
    first = json.dumps({"store": str(tmp_path), "settings": RunSettings().to_json()})
    done = subprocess.run(command, input=first, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("is not a paibench store: it has no bench.json")

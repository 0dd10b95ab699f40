"""The worker process by itself: orders, events, threads, signals."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def worker(store: Store) -> Iterator[subprocess.Popen[str]]:
    """A worker with two threads to a run."""
    command = [sys.executable, "-m", "paibench.benchmark.worker", "--store", str(store.root)]
    command += ["--threads", "2", "--checkpoint-seconds", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


def spec_of(method: Any = "random", **fields: Any) -> Spec:
    few = {"name": "digits", "examples": 200}
    given = {"dataset": few, "model": "lenet-300-100", "recipe": "smoke", "density": 0.1}
    return Spec.of(**(given | fields), method=method)


def order(worker: subprocess.Popen[str], spec: Spec, attempt: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps({"spec": spec.canonical, "attempt": attempt}) + "\n")
    worker.stdin.flush()


def said(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """The next event, other than signs of life."""
    assert worker.stdout is not None
    event: dict[str, Any] = json.loads(worker.stdout.readline())
    return said(worker) if event["event"] == "alive" else event


def test_a_life(worker: subprocess.Popen[str], store: Store) -> None:
    """It says when it is ready, what became of each order, is deaf to Ctrl-C, leaves when told."""
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
    deadline = time.monotonic() + 60
    checkpoint = store.run_folder(long.key) / "checkpoints" / "b.pt"
    while not checkpoint.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert worker.poll() is None
    assert (store.run_folder(long.key) / "claim").exists()
    start = time.monotonic()
    worker.terminate()
    assert worker.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - start < 5
    assert not (store.run_folder(long.key) / "claim").exists()
    assert checkpoint.exists()
    assert store.listing().failed == {bad.key}
    assert worker.stderr is not None
    errors = worker.stderr.read()
    assert errors.count("Traceback") == 1  # that of the run that failed
    assert "UserError" in errors


def test_without_a_store(tmp_path: Path) -> None:
    """Without a store it ends, and the last thing that it says is why."""
    command = [sys.executable, "-m", "paibench.benchmark.worker", "--store", str(tmp_path)]
    done = subprocess.run(command, input="", capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("is not a paibench store: it has no bench.json")

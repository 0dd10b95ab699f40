"""Sweeps in the foreground that are stopped, killed, repeated and run twice at once."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.pool import Event
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps import sweep as sweeps
from paibench.benchmark.sweeps.plan import plan
from paibench.commands import progress
from paibench.commands.progress import do_sweep

TOML = """
name = "interrupted"
[product]
dataset = "digits"
model = "lenet-300-100"
recipe = { name = "lite", epochs = 60 }
method = ["magnitude", "random"]
density = [0.5, 0.2, 0.1, 0.05]
"""


def workers_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@dataclass
class InterruptedSweep:
    """A sweep that is killed, stopped by Ctrl-C, and then executed by two processes at once."""

    folder: Path
    done: list[frozenset[str]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    stopped: tuple[int, float, str] = (0, 0.0, "")
    last: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "interrupted.toml").write_text(TOML)
        self.store = Store.open(self.folder / "store")
        self.specs = sweeps.read(self.folder / "interrupted.toml").specs

    def start(self, jobs: int = 2) -> "subprocess.Popen[str]":
        """Start `paibench sweep` in a new session."""
        command = [sys.executable, "-m", "paibench", "sweep", "interrupted.toml", "--out", "store"]
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is ignored here is there, too
        try:
            return subprocess.Popen(
                [*command, "--jobs", str(jobs)],
                cwd=self.folder,
                text=True,
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def wait_for(self, count: int) -> None:
        """Wait until this many runs are done."""
        deadline = time.monotonic() + 300
        while len(self.store.listing().done) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def snapshot(self) -> None:
        self.done.append(self.store.listing().done)
        self.attempts.append(sum(len(self.store.attempts(spec.key)) for spec in self.specs))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> InterruptedSweep:
    result = InterruptedSweep(tmp_path_factory.mktemp("interrupted"))
    with result.start() as sweep:
        result.wait_for(1)
        workers = workers_of(sweep.pid)
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(workers) == 2
    result.left = [pid for pid in workers if is_running(pid)]
    result.snapshot()

    with result.start() as sweep:
        result.wait_for(len(result.done[0]) + 1)
        start = time.monotonic()
        os.killpg(sweep.pid, signal.SIGINT)
        _, errors = sweep.communicate()
        result.stopped = (sweep.returncode, time.monotonic() - start, errors)
    result.snapshot()

    both = [result.start(jobs=1), result.start(jobs=1)]
    for sweep in both:
        _, errors = sweep.communicate()
        result.last.append((sweep.returncode, errors))
    result.snapshot()
    return result


@pytest.mark.slow
def test_kill(interrupted: InterruptedSweep) -> None:
    """The workers of a killed sweep die with it, and finished runs are in the store."""
    assert interrupted.left == []
    assert 1 <= len(interrupted.done[0]) < len(interrupted.specs)


@pytest.mark.slow
def test_ctrl_c(interrupted: InterruptedSweep) -> None:
    """Ctrl-C ends a sweep soon, with status 130 and one line; finished runs are kept."""
    status, seconds, errors = interrupted.stopped
    assert status == 130
    assert seconds < 60
    kept = len(interrupted.done[1])
    assert len(interrupted.done[0]) < kept < len(interrupted.specs)
    assert interrupted.done[0] < interrupted.done[1]
    last = errors.splitlines()[-1]
    assert last == (
        f"paibench: stopped; {kept} of {len(interrupted.specs)} runs are done and kept; "
        "re-run the command to continue"
    )
    assert [line for line in errors.splitlines() if "done" not in line] == []
    assert not any(interrupted.store.root.glob("runs/*/*/claim.*"))


@pytest.mark.slow
def test_two_at_once(interrupted: InterruptedSweep) -> None:
    """Two processes share a sweep: both succeed, and no run is executed twice."""
    assert [status for status, _ in interrupted.last] == [0, 0]
    assert interrupted.done[2] == {spec.key for spec in interrupted.specs}
    assert interrupted.attempts[2] - interrupted.attempts[1] == len(interrupted.specs) - len(
        interrupted.done[1]
    )
    assert list(interrupted.store.root.glob("runs/*/*/claim")) == []
    assert interrupted.store.listing().failed == frozenset()
    assert not any(interrupted.store.root.glob("runs/*/*/attempts/*/divergence.json"))


@pytest.mark.slow
def test_only_missing_runs_were_done(interrupted: InterruptedSweep) -> None:
    """Each interruption costs at most the two runs that were executing."""
    assert len(interrupted.done[0]) <= interrupted.attempts[0] <= len(interrupted.done[0]) + 2
    again = interrupted.attempts[1] - interrupted.attempts[0]
    new = len(interrupted.done[1]) - len(interrupted.done[0])
    assert new <= again <= new + 2


@pytest.mark.slow
def test_records_equal_those_of_an_undisturbed_sweep(
    interrupted: InterruptedSweep, tmp_path: Path
) -> None:
    """Every record equals that of an undisturbed run."""
    quiet = Store.open(tmp_path / "quiet")
    for spec in interrupted.specs:
        attempt(spec, quiet)
    disturbed, undisturbed = (
        [Record.read(store.read_record(spec.key)).stable() for spec in interrupted.specs]
        for store in (interrupted.store, quiet)
    )
    assert disturbed == undisturbed


@pytest.fixture
def quick(tmp_path: Path, hostile: None) -> tuple[Any, Store]:
    """A sweep of one method that works and one that fails."""
    file = tmp_path / "quick.toml"
    file.write_text(TOML.replace("epochs = 60", "epochs = 1").replace("0.5, 0.2, 0.1, ", ""))
    asked = sweeps.read(file)
    broken = asked.specs[0].model_dump() | {"method": {"name": "raises"}}
    specs = (type(asked.specs[0]).model_validate(broken), asked.specs[1])
    return sweeps.Sweep("quick", specs), Store.open(tmp_path / "store")


@pytest.mark.slow
def test_failures(quick: tuple[Any, Store], capsys: pytest.CaptureFixture[str]) -> None:
    """A failed run is reported, gives status 1, and is not retried without --retry."""
    sweep, store = quick
    assert do_sweep(sweep, store.root, RunSettings(), as_json=True) == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["outcome"] for event in events] == ["failed", "done"]
    assert events[0]["cause"] == "plugin"
    assert events[0]["reason"] == "raises (hostile 1.0): RuntimeError: first second \\x1b[31m"
    assert [event["key"] for event in events] == [spec.key for spec in sweep.specs]

    assert do_sweep(sweep, store.root, RunSettings()) == 1
    assert capsys.readouterr().err.splitlines() == [
        "1 done, 0 to do, 1 at a time, 1 thread(s) each",
        "paibench: 1 runs failed permanently before; --retry retries them",
    ]
    assert len(plan(sweep, store, retry=True).missing) == 1


def test_no_worker_starts(
    quick: tuple[Any, Store],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If no worker can start, the sweep ends with status 1 and says why in one line."""
    sweep, store = quick
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert do_sweep(sweep, store.root, RunSettings()) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [
        "paibench: stopped: no worker became ready, the last ended with exit status 1: "
        "ImportError: no torch"
    ]


def test_progress_bar(
    quick: tuple[Any, Store], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal there is a bar; only failures have their own lines."""
    sweep, store = quick
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    with progress._reporter(plan(sweep, store), RunSettings(), as_json=False) as say:
        say(Event(sweep.specs[0], "failed", 1.25, "error", "ValueError: [b]no[/b]"))
        say(Event(sweep.specs[1], "done", 2.0))
    text = capsys.readouterr().err
    assert "(1.2 s): error: ValueError: [b]no[/b]" in text
    assert "2/2" in text
    assert "(2.0 s)" not in text

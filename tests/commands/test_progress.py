"""Sweeps in front of somebody: stopped, killed, said again, said twice; nothing is lost."""

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
name = "story"
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
class Story:
    """A sweep that is killed, said again and stopped by Ctrl-C, and then said twice at once."""

    folder: Path
    done: list[frozenset[str]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    stopped: tuple[int, float, str] = (0, 0.0, "")
    last: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "story.toml").write_text(TOML)
        self.store = Store.open(self.folder / "store")
        self.specs = sweeps.read(self.folder / "story.toml").specs

    def say(self, jobs: int = 2) -> "subprocess.Popen[str]":
        """`paibench sweep`, in a session of its own."""
        command = [sys.executable, "-m", "paibench", "sweep", "story.toml", "--out", "store"]
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
        """Wait until so many runs are done."""
        deadline = time.monotonic() + 300
        while len(self.store.listing().done) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def note(self) -> None:
        self.done.append(self.store.listing().done)
        self.attempts.append(sum(len(self.store.attempts(spec.key)) for spec in self.specs))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    told = Story(tmp_path_factory.mktemp("story"))
    with told.say() as sweep:
        told.wait_for(1)
        workers = workers_of(sweep.pid)
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(workers) == 2
    told.left = [pid for pid in workers if is_running(pid)]
    told.note()

    with told.say() as sweep:
        told.wait_for(len(told.done[0]) + 1)
        start = time.monotonic()
        os.killpg(sweep.pid, signal.SIGINT)
        _, errors = sweep.communicate()
        told.stopped = (sweep.returncode, time.monotonic() - start, errors)
    told.note()

    both = [told.say(jobs=1), told.say(jobs=1)]
    for sweep in both:
        _, errors = sweep.communicate()
        told.last.append((sweep.returncode, errors))
    told.note()
    return told


def test_killed(story: Story) -> None:
    """When a sweep is killed its workers die with it, and what was finished is in the store."""
    assert story.left == []
    assert 1 <= len(story.done[0]) < len(story.specs)


def test_stopped_by_ctrl_c(story: Story) -> None:
    """Ctrl-C ends a sweep soon, with status 130 and one line; nothing that was done is lost."""
    status, seconds, errors = story.stopped
    assert status == 130
    assert seconds < 60
    kept = len(story.done[1])
    assert len(story.done[0]) < kept < len(story.specs)
    assert story.done[0] < story.done[1]
    last = errors.splitlines()[-1]
    assert last == (
        f"paibench: stopped; {kept} of {len(story.specs)} runs are done and kept; "
        "re-run the command to continue"
    )
    assert [line for line in errors.splitlines() if "done" not in line] == []
    assert not any(story.store.root.glob("runs/*/*/claim.*"))


def test_said_twice_at_once(story: Story) -> None:
    """Two that do the same sweep share it: both end well, and no run is done twice."""
    assert [status for status, _ in story.last] == [0, 0]
    assert story.done[2] == {spec.key for spec in story.specs}
    assert story.attempts[2] - story.attempts[1] == len(story.specs) - len(story.done[1])
    assert list(story.store.root.glob("runs/*/*/claim")) == []
    assert story.store.listing().failed == frozenset()
    assert not any(story.store.root.glob("runs/*/*/attempts/*/divergence.json"))


def test_only_missing_runs_were_done(story: Story) -> None:
    """Each stop cost at most the runs that were under way, two at a time."""
    assert len(story.done[0]) <= story.attempts[0] <= len(story.done[0]) + 2
    again = story.attempts[1] - story.attempts[0]
    new = len(story.done[1]) - len(story.done[0])
    assert new <= again <= new + 2


def test_records_are_those_of_a_quiet_sweep(story: Story, tmp_path: Path) -> None:
    """After all that, every record is the one that an undisturbed run gives."""
    quiet = Store.open(tmp_path / "quiet")
    for spec in story.specs:
        attempt(spec, quiet)
    disturbed, undisturbed = (
        [Record.read(store.read_record(spec.key)).stable() for spec in story.specs]
        for store in (story.store, quiet)
    )
    assert disturbed == undisturbed


@pytest.fixture
def quick(tmp_path: Path, hostile: None) -> tuple[Any, Store]:
    """A sweep of a method that works and one that does not."""
    file = tmp_path / "quick.toml"
    file.write_text(TOML.replace("epochs = 60", "epochs = 1").replace("0.5, 0.2, 0.1, ", ""))
    asked = sweeps.read(file)
    broken = asked.specs[0].model_dump() | {"method": {"name": "raises"}}
    specs = (type(asked.specs[0]).model_validate(broken), asked.specs[1])
    return sweeps.Sweep("quick", specs), Store.open(tmp_path / "store")


def test_failures(quick: tuple[Any, Store], capsys: pytest.CaptureFixture[str]) -> None:
    """What failed is said, gives status 1, and is not tried again before that is asked for."""
    sweep, store = quick
    assert do_sweep(sweep, store, RunSettings(), as_json=True) == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["outcome"] for event in events] == ["failed", "done"]
    assert events[0]["cause"] == "plugin"
    assert events[0]["reason"] == "raises (hostile 1.0): RuntimeError: first second \\x1b[31m"
    assert [event["key"] for event in events] == [spec.key for spec in sweep.specs]

    assert do_sweep(sweep, store, RunSettings()) == 1
    assert capsys.readouterr().err.splitlines() == [
        "1 done, 0 to do, 1 at a time, 1 thread(s) each",
        "paibench: 1 runs failed permanently before; --retry retries them",
    ]
    assert len(plan(sweep, store, retry=True).missing) == 1


def test_broken(
    quick: tuple[Any, Store],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where no worker can start the sweep ends with status 1 and says why in one line."""
    sweep, store = quick
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert do_sweep(sweep, store, RunSettings()) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [
        "paibench: stopped: no worker became ready, the last ended with exit status 1: "
        "ImportError: no torch"
    ]


def test_bar(
    quick: tuple[Any, Store], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal there is a bar; of events, failures alone have a line of their own."""
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

"""A pool of workers: the bits of a run done alone, and every way in which a worker can be lost."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from factories import installed, spec_of

from paibench.benchmark.execution import worker_process
from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.pool import CircuitBroken, Event, Pool
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.execution.worker_process import EXIT_INTERRUPTED, ExitReasons
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.progress import read_progress
from paibench.benchmark.store.store import Store

SETTINGS = RunSettings(jobs=2, checkpoint_seconds=0, grace_seconds=60, trusted=True)
"""In workers: what a worker is to stand is tested here, not what its methods are kept from."""


@pytest.fixture(autouse=True, scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stranger's methods are installed, here and in workers; where they leave their notes."""
    with installed("hostile") as patch:
        folder = tmp_path_factory.mktemp("notes")
        patch.setenv("TMPDIR", str(folder))  # one of the few that workers are handed on
        yield folder / "notes"


def killed_once(step: int, search: bool = False, seed: int = 0, epochs: int = 3) -> Spec:
    method = {"name": "killed_once", "step": step} | ({"search": True} if search else {})
    recipe = {"name": "lite", "epochs": epochs}
    return spec_of(method, recipe=recipe, density=0.125, seed=seed)


def stable(store: Store, spec: Spec) -> dict[str, Any]:
    return Record.read(store.read_record(spec.key)).stable()


def alone(folder: Path, spec: Spec) -> dict[str, Any]:
    """What the run gives in this process, with a store of its own."""
    store = Store.open(folder / spec.key)
    assert attempt(spec, store, RunSettings(trusted=True)) == "done"
    return stable(store, spec)


def children() -> set[int]:
    """The processes that this one has started and not waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


class Swept(NamedTuple):
    """What became of specs in a pool."""

    store: Store
    events: dict[str, Event]

    def of(self, spec: Spec) -> Event:
        return self.events[spec.key]


def swept(
    store: Store,
    specs: list[Spec],
    settings: RunSettings = SETTINGS,
    meanwhile: Callable[[Pool, Event], object] = lambda pool, event: None,
) -> Swept:
    """Do the specs, one event each; no process and no open file is left."""
    files, before, pool, events = open_files(), children(), Pool(store, settings), {}
    with closing(pool.run(specs)) as told:
        for event in told:
            assert event.spec.key not in events
            events[event.spec.key] = event
            meanwhile(pool, event)
    assert children() == before
    assert open_files() <= files
    assert set(events) == {spec.key for spec in specs}
    return Swept(store, events)


# -- peace ------------------------------------------------------------------------------------

HELD = spec_of("magnitude", density=0.3)
SHARING = [spec_of("memoizes", density=density) for density in (0.5, 0.2)]
DONE = spec_of("random", density=0.9)
SOUND = [
    *SHARING,
    HELD,
    spec_of("snip"),
    spec_of("magnitude", control="shuffle"),
    spec_of({"name": "imp", "rate": 0.5}, density=0.25),
    spec_of("random", recipe={"name": "smoke", "augment": "crop-flip"}),
    spec_of("random", recipe={"name": "smoke", "lr": 1e30}),
    spec_of("random", recipe={"name": "lite", "epochs": 40}),
]


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A pool in which all goes well, but that another process is at one run for a while, and
    that a worker dies when there is nothing more for it to do."""
    store = Store.open(tmp_path_factory.mktemp("peace"))
    assert attempt(DONE, store) == "done"
    claim = store.acquire_lease(HELD.key, "somebody")
    assert claim is not None

    def meanwhile(pool: Pool, event: Event) -> None:
        if event.spec.method.name == "snip":
            claim.release()
        idle = [worker for worker in pool._workers if worker.ready and worker.spec is None]
        if idle and not pool._waiting:
            idle[0].process.kill()

    return swept(store, [DONE, *SOUND], meanwhile=meanwhile)


@pytest.mark.parametrize("spec", SOUND, ids=str)
def test_a_pool_gives_the_same_bits(peace: Swept, spec: Spec, tmp_path: Path) -> None:
    """A run in a pool gives the record, the mask and the curve that it gives alone."""
    assert peace.of(spec).outcome == "done"
    assert stable(peace.store, spec) == alone(tmp_path, spec)


def test_a_shared_stage_is_computed_once(peace: Swept, notes: Path) -> None:
    """Of two workers that need a stage at the same time one computes it."""
    assert all(peace.of(spec).outcome == "done" for spec in SHARING)
    by_workers = [pid for pid in notes.read_text().split() if int(pid) != os.getpid()]
    assert len(by_workers) == 1


def test_each_run_is_attempted_once(peace: Swept) -> None:
    """The run that another process was at was waited for, and done when it was free."""
    assert peace.of(HELD).outcome == "done"
    assert [len(peace.store.attempts(spec.key)) for spec in SOUND] == [1] * len(SOUND)
    assert peace.store.listing().failed == frozenset()


def test_what_is_done_is_found(peace: Swept) -> None:
    """A run that has a record when its turn comes is not done again."""
    assert peace.of(DONE).outcome == "already"
    assert len(peace.store.attempts(DONE.key)) == 1


@pytest.mark.slow
def test_a_run_that_its_worker_never_came_to(tmp_path: Path) -> None:
    """A worker that dies as it is given a run costs nothing: another one does the run."""
    frozen: list[int] = []

    def give_and_kill() -> bool:
        for worker in pool._workers:
            if worker.ready and worker.spec is None and pool._waiting and not frozen:
                os.kill(worker.process.pid, signal.SIGSTOP)
                frozen.append(worker.process.pid)
            elif worker.spec and worker.process.pid in frozen and worker.process.poll() is None:
                worker.process.kill()
        return False

    store, spec = Store.open(tmp_path), spec_of("random")
    pool = Pool(store, replace(SETTINGS, jobs=1), should_stop=give_and_kill)
    with closing(pool.run([spec])) as told:
        assert [event.outcome for event in told] == ["done"]
    assert len(frozen) == len(store.attempts(spec.key)) == 1


# -- hostility --------------------------------------------------------------------------------

TIME_LIMIT = 600.0
KILLS = [killed_once(40), killed_once(100, search=True)]
LOST = {
    "hangs": ("time", "over its time limit of 600 s; killed"),
    "closes_pipes": ("killed", "its worker ended with signal SIGKILL; the system kills processes"),
    "crashes": ("crashed", "its worker ended with signal SIGSEGV"),
    "leaves_at_once": ("error", "its worker ended with exit status 0 but left no record"),
    "leaves": ("plugin", "SystemExit: 0"),
    "raises": ("plugin", "RuntimeError: first second \\x1b[31m"),
    "asks_too_much": ("memory", "RuntimeError: "),
}
SURVIVORS = [spec_of(name) for name in ("prints", "reads", "spoils", "draws_globally", "snip")]


@pytest.fixture(scope="module")
def hostility(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A pool with everything that a stranger's method can do to its worker."""
    specs = [*(spec_of(name) for name in LOST), *KILLS, *SURVIVORS]
    store = Store.open(tmp_path_factory.mktemp("hostility"))
    waiting = {spec.key for spec in specs} - {spec_of("hangs").key}

    def let_time_pass(pool: Pool, event: Event) -> None:
        """When only the run that hangs is left, let its time limit be over."""
        waiting.discard(event.spec.key)
        for worker in pool._workers:
            if worker.spec and not waiting:
                worker._started -= TIME_LIMIT

    return swept(store, specs, replace(SETTINGS, time_limit=TIME_LIMIT), let_time_pass)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOST)
def test_a_lost_run(hostility: Swept, name: str) -> None:
    """Whatever a method does costs its own run: a note with the cause and the reason in a line."""
    spec, (cause, reason) = spec_of(name), LOST[name]
    event = hostility.of(spec)
    assert (event.outcome, event.cause) == ("failed", cause)
    named = f"{name} (hostile 1.0): " if cause == "plugin" else ""
    assert event.reason.startswith(named + reason)
    assert "\n" not in event.reason
    note = hostility.store.last_failure(spec.key)
    assert note is not None
    assert (note["cause"], note["reason"]) == (cause, event.reason)
    assert not hostility.store.is_done(spec.key)
    assert is_final(hostility.store, spec.key) is (cause in ("error", "plugin", "memory"))


@pytest.mark.slow
@pytest.mark.parametrize("spec", SURVIVORS, ids=str)
def test_others_finish(hostility: Swept, spec: Spec, tmp_path: Path) -> None:
    """Runs of the same sweep finish with the bits that they have alone."""
    assert hostility.of(spec).outcome == "done"
    if spec.method.name != "reads":  # the tests' own input is not to be read
        assert stable(hostility.store, spec) == alone(tmp_path, spec)


@pytest.mark.slow
def test_the_log_is_bounded(hostility: Swept) -> None:
    """A run that prints megabytes leaves at most one in the log of its attempt, and a traceback."""
    logs = {path: path.read_bytes() for path in hostility.store.root.rglob("log.txt")}
    assert any(b'"reason": "forged"' in log for log in logs.values())
    assert any(b"in raises\n" in log for log in logs.values())
    assert 2**20 <= max(map(len, logs.values())) < 2**20 + 100_000


@pytest.mark.slow
@pytest.mark.parametrize("spec", KILLS, ids=str)
def test_killed_and_resumed(hostility: Swept, spec: Spec, tmp_path: Path) -> None:
    """A run whose worker was killed in training or between levels ends with the same bits."""
    assert hostility.of(spec).cause == "killed"
    if not hostility.store.is_done(spec.key):
        assert attempt(spec, hostility.store, RunSettings(trusted=True)) == "done"
    assert stable(hostility.store, spec) == alone(tmp_path, spec)
    assert hostility.store.last_failure(spec.key) is None
    assert len(hostility.store.attempts(spec.key)) == 2


MANY = [killed_once(step, seed=1, epochs=4) for step in (1, *range(5, 93, 8), 92)]
MANY_IMP = [killed_once(step, search=True, seed=step, epochs=2) for step in range(9, 180, 19)]


@pytest.mark.slow
def test_killed_at_many_steps(tmp_path: Path) -> None:
    """Wherever the kill falls, resuming in another worker gives the record of a quiet run."""
    store = Store.open(tmp_path / "store")
    first = swept(store, [spec_of("random"), *MANY, *MANY_IMP])  # a success, so that it goes on
    assert [first.of(spec).cause for spec in MANY + MANY_IMP] == ["killed"] * len(MANY + MANY_IMP)
    second = swept(store, MANY + MANY_IMP)
    assert {event.outcome for event in second.events.values()} == {"done"}
    equal = [stable(store, spec) == alone(tmp_path / "alone", spec) for spec in MANY + MANY_IMP]
    assert equal == [True] * len(equal)


# -- the pool itself --------------------------------------------------------------------------


def test_workers_that_never_become_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where workers cannot even start the sweep is stopped, says why, and blames no run."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch \\x1b[31m here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    store = Store.open(tmp_path / "store")
    files, before = open_files(), children()
    reason = r"ended with exit status 1: ImportError: no torch \\x1b\[31m here$"
    with pytest.raises(CircuitBroken, match=reason):
        list(Pool(store, SETTINGS).run([spec_of("random"), spec_of("snip")]))
    assert (open_files(), children()) == (files, before)
    assert store.listing() == (frozenset(), frozenset())


@pytest.mark.slow
def test_left_early(tmp_path: Path) -> None:
    """Leaving a pool ends its workers soon and releases their claims; what they did counts."""
    store, long = Store.open(tmp_path), {"name": "lite", "epochs": 2_000}
    specs = [spec_of("random", recipe=long), spec_of("random")]
    pool = Pool(store, SETTINGS)
    with closing(pool.run(specs)) as events:
        assert next(events).outcome == "done"
        deadline = time.monotonic() + 300
        while not any(store.root.glob("runs/*/*/checkpoints/train/a.pt")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = [worker.process for worker in pool._workers]
        start = time.monotonic()
    assert time.monotonic() - start < 60
    assert not any(is_running(process.pid) for process in workers)
    assert list(store.root.glob("runs/*/*/claim")) == []
    assert store.listing() == (frozenset({specs[1].key}), frozenset())


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False], ids=["with-the-pool", "alone"])
def test_workers_told_to_leave(tmp_path: Path, told: bool) -> None:
    """A worker that hears before its pool that both are to leave has not failed; one that was told
    alone is noted as killed, which is worth another try."""
    store = Store.open(tmp_path)
    spec = spec_of("random", recipe={"name": "lite", "epochs": 2_000})
    heard: list[subprocess.Popen[bytes]] = []

    def leaving() -> bool:
        before = bool(heard)
        if not heard and any(store.root.glob("runs/*/*/checkpoints/train/a.pt")):
            heard.extend(worker.process for worker in pool._workers)
            heard[0].terminate()
        return told and before

    pool = Pool(store, SETTINGS, leaving)
    with closing(pool.run([spec])) as events:
        causes = [event.cause for event in events]
    assert causes == ([] if told else ["killed"])
    assert [spec for spec, _ in pool.interrupted] == ([spec] if told else [])
    # the pool that leaves tells it once more, which may end it while it ends by itself
    assert heard[0].returncode in ((143, -signal.SIGTERM) if told else (143,))


@pytest.mark.slow
def test_left_when_told(tmp_path: Path) -> None:
    """Told to leave, a pool ends soon and says what its worker was at, which is kept and goes on
    to the record of a run that was never left.
    """
    store = Store.open(tmp_path / "store")
    spec, steps = spec_of("dawdles_once"), 0

    def leaving() -> bool:
        names = store.attempts(spec.key)
        return any(read_progress(store.attempt_folder(spec.key, name)).step for name in names)

    pool = Pool(
        store, RunSettings(checkpoint_seconds=3600, grace_seconds=60, trusted=True), leaving
    )
    assert list(pool.run([spec, spec_of("snip")])) == []
    (attempt_at,) = store.attempts(spec.key)
    assert pool.interrupted == [(spec, attempt_at)]
    assert not (store.run_folder(spec.key) / "claim").exists()
    assert (store.listing(), store.failures(spec.key)) == ((frozenset(), frozenset()), [])

    def count() -> None:
        nonlocal steps
        steps += 1

    headway = read_progress(store.attempt_folder(spec.key, attempt_at))
    assert attempt(spec, store, RunSettings(trusted=True), on_progress=count) == "done"
    assert steps == headway.steps - headway.step
    assert stable(store, spec) == alone(tmp_path / "alone", spec)


@pytest.mark.slow
def test_patience(tmp_path: Path) -> None:
    """When all else is done, a run that another process is at is waited for no longer than asked.

    What a run has printed is in the log of its attempt.
    """
    store, held, broken = Store.open(tmp_path), spec_of("random"), spec_of("raises")
    claim = store.acquire_lease(held.key, "somebody")
    assert claim is not None
    pool = Pool(store, RunSettings(wait_seconds=0.1, trusted=True))
    (event,) = pool.run([held, broken])
    assert (event.spec, event.cause) == (broken, "plugin")
    assert pool.interrupted == []
    assert store.attempts(held.key) == []
    assert claim.path.read_bytes() == claim.text
    (name,) = store.attempts(broken.key)
    assert b"in raises\n" in (store.attempt_folder(broken.key, name) / "log.txt").read_bytes()
    assert not (store.root / "workers.log").exists()


def test_nothing_to_do(tmp_path: Path) -> None:
    """A pool without specs hires nobody."""
    assert list(Pool(Store.open(tmp_path), SETTINGS).run([])) == []


# test_ends: What the exit code of a worker tells.


@pytest.mark.parametrize(
    ("code", "cause", "says"),
    [
        (0, "error", "exit status 0 but left no record"),
        (3, "error", "exit status 3"),
        (EXIT_INTERRUPTED, "killed", "exit status 143: it was asked to stop"),
        (
            -signal.SIGKILL,
            "killed",
            "signal SIGKILL; the system kills processes when memory runs out",
        ),
        (-signal.SIGTERM, "killed", "signal SIGTERM"),
        (-signal.SIGSEGV, "crashed", "signal SIGSEGV"),
        (-signal.SIGABRT, "crashed", "signal SIGABRT"),
    ],
)
def test_why(code: int, cause: str, says: str) -> None:
    """Who leaves would leave again; who is killed would not; who crashes may."""
    assert ExitReasons().explain(code) == (cause, f"its worker ended with {says}")


def test_killed_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill that the system counts as one for memory is that, and the next one is not."""
    kills = [3, 3]
    monkeypatch.setattr(worker_process, "memory_kills", lambda: kills.pop(0))
    told = ExitReasons(2)
    assert [told.explain(-signal.SIGKILL)[0] for _ in range(2)] == ["memory", "killed"]

"""Attempts at a run: one record or one noted failure, and the claim released either way."""

import errno
import gc
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from factories import spec_of
from safetensors.torch import load

from paibench.benchmark.execution import services
from paibench.benchmark.execution.attempt import Failed, attempt
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.run import run
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps import environment, search
from paibench.benchmark.store.failures import MOST_ATTEMPTS, is_final
from paibench.benchmark.store.progress import read_progress
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask_file import digest, from_bytes
from paibench.methods.core.task import Task
from paibench.methods.training.services import SECONDS, Interrupted

pytestmark = pytest.mark.usefixtures("hostile")
WITHOUT_FILES = {"mask_file": None, "curve_file": None, "predictions_file": None}


def record_of(store: Store, spec: Spec) -> Record:
    return Record.read(store.read_record(spec.key))


def is_free(store: Store, spec: Spec) -> bool:
    return not (store.run_folder(spec.key) / "claim").exists()


def test_record_and_files(store: Store) -> None:
    """A run leaves its record and the files beside it; claim and checkpoints are gone."""
    spec = spec_of()
    assert attempt(spec, store, RunSettings(checkpoint_seconds=0)) == "done"
    record = record_of(store, spec)
    assert record.status == "done"
    assert record.mask_file is not None
    assert record.curve_file is not None
    assert record.predictions_file is not None
    mask = from_bytes(store.read_file(spec.key, record.mask_file))
    assert digest(mask) == record.mask_sha256
    assert b'"epoch": 2' in store.read_file(spec.key, record.curve_file)
    predictions = store.read_file(spec.key, record.predictions_file)
    assert (len(predictions), record.test_examples) == (45, 360)
    assert int.from_bytes(predictions, "big").bit_count() / 360 == record.accuracy
    names = {path.name for path in store.run_folder(spec.key).iterdir()}
    assert names == {record.mask_file, record.curve_file, record.predictions_file, "attempts"}
    assert record.stable() | WITHOUT_FILES == run(spec).record.stable()


def test_done_once(store: Store) -> None:
    """A run that has its record is found; no further attempt is made."""
    spec = spec_of()
    attempt(spec, store)
    before = store.record_path(spec.key).stat().st_mtime_ns
    assert attempt(spec, store) == "already"
    assert store.record_path(spec.key).stat().st_mtime_ns == before
    assert len(store.attempts(spec.key)) == 1


def test_busy(store: Store) -> None:
    """While somebody else is at it a run is left alone, without a trace of the attempt."""
    spec = spec_of()
    claim = store.acquire_lease(spec.key, "somebody")
    assert claim is not None
    assert attempt(spec, store) == "busy"
    assert store.attempts(spec.key) == []
    claim.release()
    assert attempt(spec, store) == "done"


@pytest.mark.parametrize("damage", [b"", b'{"schema": 1}', b"\xff"], ids=["empty", "bare", "odd"])
def test_broken_records_are_done_again(store: Store, damage: bytes) -> None:
    """A record that cannot be trusted is set aside, and the run gives the same one again."""
    spec = spec_of()
    attempt(spec, store)
    first = record_of(store, spec)
    path = store.record_path(spec.key)
    path.chmod(0o644)
    path.write_bytes(damage)
    assert attempt(spec, store) == "done"
    assert record_of(store, spec).stable() == first.stable()
    (aside,) = (store.root / "quarantine").iterdir()
    assert aside.read_bytes() == damage


def test_divergence_is_a_record(store: Store) -> None:
    """A run that diverges is done: it would diverge again."""
    spec = spec_of(recipe={"name": "smoke", "lr": 1e30})
    assert attempt(spec, store) == "done"
    assert record_of(store, spec).status == "diverged"
    assert attempt(spec, store) == "already"


@pytest.mark.parametrize(
    ("method", "cause", "reason"),
    [
        ("raises", "plugin", "RuntimeError: first second \\x1b[31m"),
        ("raises_mute", "plugin", "Mute: its message cannot be read"),
        ("leaves", "plugin", "SystemExit: 0"),
        ("out_of_memory", "memory", "MemoryError: no message"),
        (
            "keeps_one_more",
            "plugin",
            "ValueError: mask keeps 5021 of 50200 weights, density 0.1 asks for 5020",
        ),
        ("scores_nan", "plugin", "ValueError: 1 of 50200 scores are NaN"),
        (
            "gives_integers",
            "plugin",
            "ValueError: mask of fc1.weight has dtype torch.int32, needed torch.bool",
        ),
        ("adds_a_layer", "plugin", "ValueError: names that are no prunable weights: '../../x'"),
        (
            "gives_nothing",
            "plugin",
            "ValueError: expected a Mask, Scores, Channels or a Ticket, got NoneType",
        ),
        (
            "gives_other_weights",
            "plugin",
            "ValueError: the ticket has weights for 'fc9.weight', which the network has not",
        ),
        (
            "cannot_be_imported",
            "plugin",
            "it cannot be imported: ModuleNotFoundError: No module named 'no_such_library'",
        ),
        (
            {"name": "imp", "rewind_epoch": 9.0},
            "input",
            "imp: rewind_epoch = 9.0 is out of range; give 0 or more, and less than the "
            "recipe's 2 epochs",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "trusted", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["here", "sandbox"]
)
def test_failures(store: Store, method: Any, cause: str, reason: str, trusted: bool) -> None:
    """A run that gives no record fails with a cause and one line, noted in the store.

    A method that is at fault is named, with its distribution; it is the same in the sandbox.
    """
    spec = spec_of(method)
    with pytest.raises(Failed) as caught:
        attempt(spec, store, RunSettings(trusted=trusted))
    named = f"{method} (hostile 1.0): " if cause == "plugin" else ""
    assert (caught.value.cause, str(caught.value)) == (cause, named + reason)
    note = store.last_failure(spec.key)
    assert note is not None
    assert (note["status"], note["cause"], note["reason"]) == ("failed", cause, named + reason)
    assert note["spec"] == spec.canonical
    assert store.listing().failed == {spec.key}
    assert is_free(store, spec)
    assert is_final(store, spec.key) is (cause != "input")


@pytest.mark.slow
def test_asking_for_too_much_memory(store: Store) -> None:
    """An allocation that the system refuses is a want of memory."""
    with pytest.raises(Failed, match="memory") as caught:
        attempt(spec_of("asks_too_much"), store)
    assert caught.value.cause == "memory"


def test_missing_data(store: Store) -> None:
    """Without its data set a run fails for want of input, and may be tried again for ever."""
    spec = spec_of(dataset="mnist")
    for _ in range(MOST_ATTEMPTS + 1):
        with pytest.raises(Failed) as caught:
            attempt(spec, store)
        assert caught.value.cause == "input"
    assert not is_final(store, spec.key)


def test_interrupted(store: Store) -> None:
    """Ctrl-C is no failure: nothing is noted, the claim is free, and the run can go on."""
    spec, steps = spec_of(), 0

    def pulse() -> None:
        nonlocal steps
        steps += 1
        if steps == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(spec, store, RunSettings(checkpoint_seconds=0), on_progress=pulse)
    assert store.last_failure(spec.key) is None
    assert is_free(store, spec)
    steps = 100
    assert attempt(spec, store, on_progress=pulse) == "done"
    assert steps == 117  # all but the 29 that a checkpoint was taken after
    assert record_of(store, spec).stable() | WITHOUT_FILES == run(spec).record.stable()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses files that grow beyond this, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("size", "checkpoint_seconds"), [(4_000, 3600.0), (4_000, 0.0)], ids=["mask", "checkpoint"]
)
def test_full_store(store: Store, size: int, checkpoint_seconds: float) -> None:
    """A store that takes no more costs the run, not those before it, and says where in one line."""
    first, second = spec_of(), spec_of(density=0.2)
    attempt(first, store)
    with no_file_above(size), pytest.raises(Failed) as caught:
        attempt(second, store, RunSettings(checkpoint_seconds=checkpoint_seconds))
    assert caught.value.cause == "storage"
    assert str(caught.value).startswith(f"cannot write in '{store.root}/runs/")
    assert "bytes free" in str(caught.value)
    note = store.last_failure(second.key)
    assert note is not None
    assert note["cause"] == "storage"
    assert record_of(store, first).status == "done"
    assert is_free(store, second)
    assert not is_final(store, second.key)
    assert attempt(second, store) == "done"
    assert store.last_failure(second.key) is None
    assert not any(path.name.startswith(".tmp-") for path in store.root.rglob("*"))


def test_store_that_takes_nothing(store: Store) -> None:
    """Where not even the failure can be noted, it is said all the same."""
    spec = spec_of()
    with no_file_above(10), pytest.raises(Failed, match="while noting") as caught:
        attempt(spec, store)
    assert caught.value.cause == "storage"
    assert attempt(spec, store) == "done"


IMP = {"name": "imp", "rate": 0.5}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of stages as they are computed."""
    names: list[str] = []
    compute = services.StageCache._compute

    def counting(self: services.StageCache, name: str, work: Callable[[], Any]) -> Any:
        names.append(name)
        return compute(self, name, work)

    monkeypatch.setattr(services.StageCache, "_compute", counting)
    return names


def test_levels_are_shared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of IMP at other densities compute the missing levels alone, with the same records."""
    names = counted(monkeypatch)
    specs = [spec_of(IMP, density=density) for density in (0.5, 0.25, 0.125, 0.3)]
    numbers = []
    for spec in specs:
        attempt(spec, store)
        numbers.append(len(names))
    assert numbers == [1, 2, 3, 3]  # the dense run, then a level each; the last has all it needs
    for spec in specs:
        expected = run(spec).record.stable()
        assert record_of(store, spec).stable() | WITHOUT_FILES == expected


def test_a_found_stage_costs_its_seconds(store: Store) -> None:
    """The last run computes nothing, and reports the time of every training it builds on."""
    for density in (0.125, 0.5, 0.25):
        attempt(spec_of(IMP, density=density), store)
    stages = [load(path.read_bytes()) for path in (store.root / "stages").rglob("*.safetensors")]
    seconds = sorted(float(stage[SECONDS]) for stage in stages)
    assert len(seconds) == 3
    # The stage of a level has the seconds of the levels before it.
    least = record_of(store, spec_of(IMP, density=0.25)).search_seconds
    assert least is not None and least >= seconds[1] > seconds[0] > 0
    most = record_of(store, spec_of(IMP, density=0.125)).search_seconds
    assert most is not None and most >= seconds[2] > seconds[1]


@pytest.mark.parametrize("step", [10, 46, 60, 100])
def test_imp_broken_off(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """IMP that was broken off in a round computes the missing levels alone, to the same record."""
    spec, steps = spec_of(IMP, density=0.125), 0

    def pulse() -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(spec, store, on_progress=pulse)
    whole = -(-step // 46) - 1
    names = counted(monkeypatch)
    assert attempt(spec, store, on_progress=pulse) == "done"
    assert len(names) == 3 - whole
    assert record_of(store, spec).stable() | WITHOUT_FILES == run(spec).record.stable()


# -- leaving ----------------------------------------------------------------------------------


@dataclass
class Asked:
    """Counts steps as the sign of life does; says at one of them that it is time to leave."""

    at: int
    steps: int = 0

    def pulse(self) -> None:
        self.steps += 1

    def __call__(self) -> bool:
        return self.steps == self.at


def left(store: Store, spec: Spec, asked: Asked) -> str:
    """Leave an attempt when asked: its name. Nothing is noted and the claim is free."""
    with pytest.raises(Interrupted):
        attempt(
            spec,
            store,
            RunSettings(checkpoint_seconds=3600),
            on_progress=asked.pulse,
            should_stop=asked,
        )
    assert asked.steps == asked.at
    assert is_free(store, spec)
    assert store.failures(spec.key) == []
    assert store.listing() == (frozenset(), frozenset())
    (name,) = store.attempts(spec.key)
    return name


def is_as_alone(store: Store, spec: Spec) -> bool:
    """Whether the record is that of a run which was never left."""
    return record_of(store, spec).stable() | WITHOUT_FILES == run(spec).record.stable()


@pytest.mark.parametrize("step", [1, 22, 23, 30, 46])
def test_left_in_training(store: Store, step: int) -> None:
    """A training is kept after the step that it was at; no step is done twice."""
    spec, asked = spec_of(), Asked(step)
    headway = read_progress(store.attempt_folder(spec.key, left(store, spec, asked)))
    assert (headway.begun, headway.step, headway.steps) == (0, step, 46)
    assert attempt(spec, store, on_progress=asked.pulse) == "done"
    assert asked.steps == 46
    assert is_as_alone(store, spec)


@pytest.mark.parametrize("step", [10, 46, 60, 138])
def test_left_in_a_search(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A training within a search is kept as well: no step and no stage is done twice."""
    spec, asked = spec_of(IMP, density=0.125), Asked(step)
    headway = read_progress(store.attempt_folder(spec.key, left(store, spec, asked)))
    whole = (step - 1) // 46
    assert (headway.stages, headway.steps, headway.searched) == (whole, 0, step - whole * 46)
    names = counted(monkeypatch)
    assert attempt(spec, store, on_progress=asked.pulse) == "done"
    assert len(names) == 3 - whole
    assert asked.steps == 4 * 46
    assert is_as_alone(store, spec)


@pytest.mark.parametrize(
    ("method", "fields", "steps"),
    [("random", {}, 46), (IMP, {"density": 0.125}, 4 * 46), ("edge_popup", {}, 2 * 46)],
    ids=["training", "stages", "search"],
)
def test_other_code_goes_on_with_nothing(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    method: Any,
    fields: dict[str, Any],
    steps: int,
) -> None:
    """What was kept under other code of the package is begun anew, and ends the same."""
    spec, asked = spec_of(method, **fields), Asked(30)
    left(store, spec, asked)
    with monkeypatch.context() as patch:
        patch.setattr(environment, "code_digest_at_start", lambda: "0" * 64)
        assert attempt(spec, store, on_progress=asked.pulse) == "done"
    assert asked.steps == 30 + steps
    assert is_as_alone(store, spec)


def test_left_in_a_stage_that_another_run_goes_on_with(store: Store) -> None:
    """What was kept of a shared stage is there for whoever has its claim next."""
    first, second = spec_of(IMP, density=0.125), spec_of(IMP, density=0.25)
    asked = Asked(10)
    left(store, first, asked)
    assert attempt(second, store, on_progress=asked.pulse) == "done"
    assert asked.steps == 3 * 46  # two stages and its own training, none of it twice
    assert is_as_alone(store, second)
    assert attempt(first, store, on_progress=asked.pulse) == "done"
    assert asked.steps == 5 * 46
    assert is_as_alone(store, first)
    assert list(store.root.rglob("*.pt")) == []


@pytest.mark.parametrize("method", ["edge_popup", "zhou"])
@pytest.mark.parametrize("step", [1, 23, 30])
def test_left_in_a_search_for_scores(store: Store, method: str, step: int) -> None:
    """So is the training of scores, with what it draws at random."""
    spec, asked = spec_of(method), Asked(step)
    left(store, spec, asked)
    assert attempt(spec, store, on_progress=asked.pulse) == "done"
    assert asked.steps == 2 * 46
    assert is_as_alone(store, spec)


def test_left_in_a_search_that_is_not_resumable(store: Store) -> None:
    """One that keeps a state of its own is begun anew, and ends the same."""
    spec, asked = spec_of("gem_miner"), Asked(10)
    left(store, spec, asked)
    assert attempt(spec, store, on_progress=asked.pulse) == "done"
    assert asked.steps == 10 + 2 * 46
    assert is_as_alone(store, spec)


def test_left_again_and_again(store: Store) -> None:
    """A run that is left at every fifth step comes to its end, with the same record."""
    spec, asked = spec_of(), Asked(0)
    while not store.is_done(spec.key):
        asked.at = asked.steps + 5
        with suppress(Interrupted):
            attempt(spec, store, on_progress=asked.pulse, should_stop=asked)
    assert asked.steps == 46
    assert len(store.attempts(spec.key)) == 10
    assert is_as_alone(store, spec)


def test_left_with_a_full_store(store: Store) -> None:
    """Where the training cannot be kept any more, leaving is no failure either."""
    spec, asked = spec_of(), Asked(30)
    with no_file_above(4_000):
        left(store, spec, asked)
    assert attempt(spec, store) == "done"
    assert is_as_alone(store, spec)


# when a helper dies, torch raises an error in a signal handler; that can interrupt anything in this
# process, also a callback of the garbage collector, which cannot raise errors
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("heeded", [True, False], ids=["asked to leave", "not asked"])
def test_a_helper_that_dies_of_the_same_signal(store: Store, heeded: bool) -> None:
    """When helpers of a data loader end because all is to leave, no run has failed."""
    spec, signals = spec_of("loses_its_helper"), []
    before = signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
    try:
        with pytest.raises(Interrupted if heeded else Failed):
            asked = partial(attempt, should_stop=lambda: heeded and bool(signals))
            asked(spec, store, RunSettings(trusted=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signals == [1]
    assert is_free(store, spec)
    assert len(store.failures(spec.key)) == (not heeded)


def _interrupts_itself(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def _is_interrupted(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def test_ctrl_c_and_a_method_that_raises_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C ends the attempt without a failure; raised by a method, it is the method's fault."""
    spec = spec_of("random")
    monkeypatch.setattr(search, "get", lambda name: _is_interrupted)
    # a shell starts commands in the background with Ctrl-C ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        attempt(spec, store)
    assert store.failures(spec.key) == []
    assert is_free(store, spec)
    monkeypatch.setattr(search, "get", lambda name: _interrupts_itself)
    with pytest.raises(Failed, match="^random: KeyboardInterrupt: no message$"):
        attempt(spec, store)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_store_that_fails_is_no_fault_of_a_method(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is `storage` if a service of the store meets it, called by a method or not."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def stores(net: object, task: Task, density: float) -> None:
        task.memo("stage", lambda: {})

    monkeypatch.setattr(Store, "publish_stage", full)
    monkeypatch.setattr(search, "get", lambda name: stores)
    for method in ("random", "raises"):
        with pytest.raises(Failed) as caught:
            attempt(spec_of(method), store, RunSettings(trusted=True))
        assert caught.value.cause == "storage"


def test_nothing_is_left_open(store: Store) -> None:
    """A run leaves no file open and no network alive."""

    def held() -> tuple[int, int]:
        gc.collect()
        layers = sum(type(thing) is torch.nn.Linear for thing in gc.get_objects())
        return len(os.listdir("/proc/self/fd")), layers

    attempt(spec_of(seed=1), store)
    before = held()
    attempt(spec_of(seed=2), store)
    assert held() == before

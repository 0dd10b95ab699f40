"""Services of a run with a store: heartbeats renew leases, and one run computes a shared stage."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from paibench.benchmark.execution.services import Heartbeat, StageCache, cache_key
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import lease
from paibench.benchmark.store.store import Store
from paibench.methods.training.services import Interrupted, State

SCOPE = "c0" + "0" * 38
STATE = {
    "weight": torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
    "count": torch.tensor(5),
    "turned": torch.arange(6.0).view(2, 3).t(),
    "half": torch.tensor([0.1, 0.2], dtype=torch.bfloat16),
}
HOLDER = """
import sys, time
from pathlib import Path
from paibench.benchmark.store.lease import acquire
assert acquire(Path(sys.argv[1]), "other")
print("held", flush=True)
time.sleep(600)
"""


class Counted:
    """A stage's computation that counts how often it is done."""

    def __init__(self, seconds: float = 0) -> None:
        self.times, self.seconds = 0, seconds

    def __call__(self) -> State:
        self.times += 1
        time.sleep(self.seconds)
        return STATE


def stages(store: Store, attempt: str = "me", heartbeat: Heartbeat | None = None) -> StageCache:
    return StageCache(store, SCOPE, attempt, heartbeat or Heartbeat())


def same(state: State) -> bool:
    return list(sorted(state)) == sorted(STATE) and all(
        state[name].dtype == tensor.dtype and torch.equal(state[name], tensor)
        for name, tensor in STATE.items()
    )


def test_found_again(store: Store) -> None:
    """A computed stage is found by others with the same bits, names and types."""
    compute = Counted()
    assert same(stages(store).find("one", compute))
    assert same(stages(store, "other").find("one", compute))
    assert compute.times == 1
    assert same(stages(store).find("two", compute))
    assert compute.times == 2


def test_two_at_once(store: Store) -> None:
    """Of two that ask at the same time one computes and the other waits for it."""
    compute, found = Counted(seconds=0.3), []
    both = [
        threading.Thread(target=lambda n=name: found.append(stages(store, n).find("one", compute)))
        for name in ("first", "second")
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert compute.times == 1
    assert [same(state) for state in found] == [True, True]


def test_many_short_stages(store: Store) -> None:
    """However the claims of many come and go, nobody fails and each stage is computed once."""
    computes = {f"stage{number}": Counted() for number in range(30)}
    errors: list[BaseException] = []

    def ask(name: str) -> None:
        try:
            for stage, compute in computes.items():
                assert same(stages(store, name).find(stage, compute))
        except BaseException as error:
            errors.append(error)

    asking = [threading.Thread(target=ask, args=(f"asker{number}",)) for number in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert errors == []
    assert [compute.times for compute in computes.values()] == [1] * 30


def test_a_dead_process_is_not_waited_for(store: Store) -> None:
    """Waiting keeps the own claims alive, and ends soon after the computing process dies."""
    folder = store.stage_path(SCOPE, "one").with_suffix("")
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        beats, compute = 0, Counted()

        def beat() -> None:
            nonlocal beats
            beats += 1
            if beats == 3:
                assert compute.times == 0
                holder.kill()
                holder.wait()

        assert same(stages(store, heartbeat=Heartbeat(beat)).find("one", compute))
    assert beats >= 3
    assert compute.times == 1


def flipped(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    "broken",
    [b"", b"not safetensors", pytest.param("cut", id="cut"), pytest.param("flip", id="flip")],
    ids=str,
)
def test_broken_stages(store: Store, broken: bytes | str) -> None:
    """A stage that was cut, overwritten or flipped in one bit is set aside and computed again."""
    compute = Counted()
    stages(store).find("one", compute)
    path = store.stage_path(SCOPE, "one")
    data = path.read_bytes()
    path.chmod(0o644)
    damaged = {"cut": data[:-5], "flip": flipped(data)}.get(str(broken), broken)
    assert isinstance(damaged, bytes)
    path.write_bytes(damaged)
    assert same(stages(store).find("one", compute))
    assert compute.times == 2
    (aside,) = (store.root / "quarantine").iterdir()
    assert aside.read_bytes() == damaged
    assert same(stages(store).find("one", compute))
    assert compute.times == 2


def test_a_failing_stage_is_given_up(store: Store) -> None:
    """If the computation fails, nothing is stored, and another run may try at once."""

    def fail() -> State:
        raise ValueError("no")

    with pytest.raises(ValueError, match="^no$"):
        stages(store).find("one", fail)
    assert store.read_stage(SCOPE, "one") is None
    assert same(stages(store, "other").find("one", Counted()))


def test_a_stage_within_a_stage(store: Store) -> None:
    """A stage may need another stage; both leases are held meanwhile and released afterwards."""
    outer = stages(store)

    def compute() -> State:
        return outer.find("inner", Counted())

    assert same(outer.find("outer", compute))
    left = list(store.root.glob("stages/*/*/*/claim"))
    assert left == []


SPEC: dict[str, object] = {
    "dataset": "digits",
    "model": "lenet-300-100",
    "recipe": "smoke",
    "method": "imp",
    "density": 0.5,
}


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"density": 0.1}, True),
        ({"control": "shuffle"}, True),
        ({"method": {"name": "imp", "rate": 0.5}}, True),  # its options are in the stage's name
        ({"method": "snip"}, False),
        ({"seed": 1}, False),
        ({"recipe": "lite"}, False),
        ({"recipe": {"name": "smoke", "lr": 0.1}}, False),
        ({"model": "conv-2"}, False),
        ({"init": "native"}, False),
        ({"dataset": {"name": "digits", "examples": 100}}, False),
    ],
    ids=str,
)
def test_scope(change: dict[str, object], shared: bool) -> None:
    """Runs share stages exactly if everything that a search depends on is equal."""
    plain = cache_key(Spec.model_validate(SPEC), "here", "data")
    assert (plain == cache_key(Spec.model_validate(SPEC | change), "here", "data")) is shared


def test_scope_of_another_place_or_other_data() -> None:
    """A stage is not shared with a machine of other bits, nor after the data have changed."""
    spec = Spec.model_validate(SPEC)
    scopes = {cache_key(spec, *facts) for facts in (("a", "x"), ("b", "x"), ("a", "y"))}
    assert len(scopes) == 3


def leased(folder: Path, seconds: float = 600) -> lease.Lease:
    folder.mkdir()
    held = lease.acquire(folder, "me", seconds)
    assert held is not None
    return held


def test_held_leases_are_renewed(tmp_path: Path) -> None:
    """Every held lease is renewed, nested ones too, and `on_beat` is called."""
    called: list[int] = []
    heartbeat = Heartbeat(lambda: called.append(1))
    outer, inner = (leased(tmp_path / name, seconds=1e-6) for name in ("outer", "inner"))
    with heartbeat.renewing(outer), heartbeat.renewing(inner):
        for held in (outer, inner):
            os.utime(held.path, (0, 0))
        heartbeat()
        assert all(held.path.stat().st_mtime > 0 for held in (outer, inner))
    assert called == [1]
    heartbeat()
    assert called == [1, 1]


def test_released_whatever_happens(tmp_path: Path) -> None:
    """A lease is released when the work is done, and when it is interrupted."""
    heartbeat = Heartbeat()
    for number, error in enumerate((None, KeyboardInterrupt)):
        held = leased(tmp_path / str(number))
        if error:
            with pytest.raises(error), heartbeat.renewing(held):
                raise error
        else:
            with heartbeat.renewing(held):
                assert held.path.exists()
        assert not held.path.exists()


def test_interrupted_when_asked(tmp_path: Path) -> None:
    """Where it is safe to leave, the sign of life is given first, and then Left raised if asked."""
    asked, called = False, []
    heartbeat = Heartbeat(lambda: called.append(asked), should_stop=lambda: asked)
    held = leased(tmp_path / "run")
    with pytest.raises(Interrupted), heartbeat.renewing(held):
        heartbeat()
        asked = True
        heartbeat()
    assert called == [False, True]
    assert not held.path.exists()


def test_handlers_of_failures_do_not_catch_an_interruption() -> None:
    """An interruption is neither an Exception nor the SystemExit that a method may raise."""
    assert not issubclass(Interrupted, Exception | SystemExit)

"""What is noted of an attempt whose job ended."""

import json
import time
from pathlib import Path

import pytest

from paibench.benchmark.failures import is_final
from paibench.benchmark.headway import Headway
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.fate import Fate
from paibench.slurm.notes import SHORT, note_end

SPEC = Spec.of(
    dataset="digits", model="lenet-300-100", recipe="smoke", method="random", density=0.5
)
LIMIT = Fate("limit", "its job reached its time limit")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def ended(store: Store, fate: Fate, before: float = 2 * SHORT, **headway: int) -> str:
    """The cause that is noted of an attempt which began so many seconds ago and came so far."""
    attempt = store.new_attempt(SPEC.key)
    Headway(
        store.attempt_folder(SPEC.key, attempt), started=int(time.time() - before), **headway
    ).keep()
    note_end(store, SPEC, attempt, fate)
    note = json.loads((store.attempt_folder(SPEC.key, attempt) / "failure.json").read_text())
    return str(note["cause"])


def test_stuck(store: Store) -> None:
    """Two time limits in a row that find a run in one place are its end, until somebody asks."""
    assert ended(store, LIMIT, step=10) == "limit"
    assert not store.listing().failed
    assert ended(store, LIMIT, step=10) == "stuck"
    assert is_final(store, SPEC.key)
    assert (store.last_failure(SPEC.key) or {})["reason"].endswith("give jobs more time")


@pytest.mark.parametrize(
    "second",
    [
        {"step": 11},
        {"step": 10, "stages": 1},
        {"step": 10, "searched": 5},
        {"step": 10, "waited": 5},
    ],
    ids=["trained", "a stage", "within its search", "waited for another"],
)
def test_who_gets_on_is_not_stuck(store: Store, second: dict[str, int]) -> None:
    """A step, a stage, a part of a search, or a wait for another's stage is reason to go on."""
    assert ended(store, LIMIT, step=10) == "limit"
    assert ended(store, LIMIT, **second) == "limit"


def test_who_had_no_time_is_not_stuck(store: Store) -> None:
    """An attempt that began right before the limit could not get on."""
    assert [ended(store, LIMIT, before=0, step=10) for _ in range(3)] == ["limit"] * 3


def test_something_else_in_between(store: Store) -> None:
    """Only limits in a row tell."""
    preempted = Fate("preempted", "its job was preempted")
    causes = [ended(store, fate, step=10) for fate in (LIMIT, preempted, LIMIT)]
    assert causes == ["limit", "preempted", "limit"]


def test_memory_is_shared(store: Store) -> None:
    """What a run might have held is its share of what its job had."""
    attempt = store.new_attempt(SPEC.key)
    note_end(store, SPEC, attempt, Fate("memory", "too much", 3000), at_work=2)
    assert (store.last_failure(SPEC.key) or {})["memory_mb"] == 1500
    assert is_final(store, SPEC.key, 1500)
    assert not is_final(store, SPEC.key, 1600)

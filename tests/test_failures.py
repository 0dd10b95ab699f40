"""What is kept of a run that failed, and which failures are worth another attempt."""

from pathlib import Path

import pytest

from paibench.benchmark import failures
from paibench.benchmark.failures import MOST_ATTEMPTS, Cause, is_final, note
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store

SPEC = Spec.of(
    dataset="digits", model="lenet-300-100", recipe="lite", method="snip", density=0.1, seed=3
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def fail(store: Store, *causes: Cause) -> None:
    """One failed attempt after the other."""
    for cause in causes:
        note(store, SPEC, store.new_attempt(SPEC.key), cause, f"because of {cause}")


def test_a_note_says_which_run_and_why(store: Store) -> None:
    """The note holds the spec, the cause, the reason and the attempt; the run is listed."""
    fail(store, "memory")
    last = store.last_failure(SPEC.key) or {}
    assert last["status"] == "failed"
    assert (last["cause"], last["reason"]) == ("memory", "because of memory")
    assert Spec.model_validate(last["spec"]) == SPEC
    assert [last["attempt"]] == store.attempts(SPEC.key)
    assert store.listing() == (frozenset(), frozenset([SPEC.key]))


@pytest.mark.parametrize(
    ("causes", "final"),
    [
        (["error"], True),
        (["memory"], True),
        (["killed"], False),
        (["time"], False),
        (["storage"], False),
        (["input"], False),
        (["killed", "error"], True),
        (["error", "killed"], False),
        (["killed"] * (MOST_ATTEMPTS - 1), False),
        (["killed"] * MOST_ATTEMPTS, True),
        (["input"] * MOST_ATTEMPTS, False),
        (["input", *["killed"] * (MOST_ATTEMPTS - 1)], False),
    ],
    ids=lambda value: f"{len(value)} {value[-1]}" if isinstance(value, list) else str(value),
)
def test_what_is_tried_again(store: Store, causes: list[Cause], final: bool) -> None:
    """What a seed decides is not tried again; what the world did is, up to five times.

    Bad input costs nothing and may have been mended, so that it never counts.
    """
    fail(store, *causes)
    assert is_final(store, SPEC.key) is final


def test_every_cause_has_been_thought_of() -> None:
    """The causes that are tried again are causes."""
    assert set(failures.TRIED_AGAIN) < set(Cause.__args__)  # type: ignore[attr-defined]


def test_a_note_that_cannot_be_read_is_final(store: Store) -> None:
    """A broken note is left to its owner, since nobody knows why the run failed."""
    fail(store, "killed")
    store.record_path(SPEC.key).with_suffix(".failed").write_bytes(b"{")
    assert is_final(store, SPEC.key)

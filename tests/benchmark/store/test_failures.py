"""The failures that a store records, and which of them are tried again."""

from typing import get_args

import pytest
from factories import spec_of

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.failures import (
    MOST_ATTEMPTS,
    MOST_OWN_FAULTS,
    Cause,
    Interruption,
    is_final,
    record_failure,
)
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store

SPEC = spec_of("snip", recipe="lite", seed=3)


def fail(store: Store, *causes: Cause | Interruption) -> None:
    """Record one failed attempt after another."""
    for cause in causes:
        record_failure(store, SPEC, new_attempt_id(), cause, f"because of {cause}")


def test_a_failure_names_its_run_and_the_reason(store: Store) -> None:
    """The file has the spec, the cause, the reason and the attempt; the run is listed as failed."""
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
        (["plugin"], True),
        (["stuck"], True),
        (["killed", "stuck"], True),
        (["crashed"], False),
        (["crashed"] * (MOST_OWN_FAULTS - 1), False),
        (["crashed"] * MOST_OWN_FAULTS, True),
        (["time"] * MOST_OWN_FAULTS, True),
        (["crashed", "killed", "time", "storage", "crashed"][: MOST_OWN_FAULTS + 1], False),
        (["crashed", "killed", "time", "crashed"], True),
        (["killed", *["preempted"] * MOST_ATTEMPTS], False),
        ([*["killed"] * (MOST_ATTEMPTS - 1), *["node", "lost", "limit"] * 3], False),
        (["error", "requeued"], True),
    ],
    ids=lambda value: f"{len(value)} {value[-1]}" if isinstance(value, list) else str(value),
)
def test_what_is_tried_again(store: Store, causes: list[Cause | Interruption], final: bool) -> None:
    """What a seed decides is not tried again; what the world did is, up to five times.

    What nobody else can have done, three times. Bad input costs nothing and may have been
    mended, so that it never counts; neither does an interruption.
    """
    fail(store, *causes)
    assert is_final(store, SPEC.key) is final


def test_every_cause_has_a_rule() -> None:
    """The causes that are tried again are causes, and no cause is an interruption."""
    assert set(failures.OWN_FAULT) < set(failures.RETRIED) < set(get_args(Cause))
    assert not set(get_args(Cause)) & set(get_args(Interruption))


def test_a_failure_that_cannot_be_read_is_final(store: Store) -> None:
    """A run with a damaged failure file is not tried again, since the cause is unknown."""
    fail(store, "killed")
    store.record_path(SPEC.key).with_suffix(".failed").write_bytes(b"{")
    assert is_final(store, SPEC.key)


@pytest.mark.parametrize("cause", get_args(Interruption))
def test_an_interruption_belongs_to_its_attempt_only(store: Store, cause: Interruption) -> None:
    """An interruption is recorded for the attempt; the run is not listed as failed."""
    fail(store, cause)
    (told,) = store.failures(SPEC.key)
    assert (told["status"], told["cause"]) == ("interrupted", cause)
    assert told["reason"] == f"because of {cause}"
    assert Spec.model_validate(told["spec"]) == SPEC
    assert store.last_failure(SPEC.key) is None
    assert store.listing() == (frozenset(), frozenset())


def test_an_interruption_hides_no_failure(store: Store) -> None:
    """An interruption of a later attempt does not change the last failure of a run."""
    fail(store, "time", "preempted")
    assert (store.last_failure(SPEC.key) or {})["cause"] == "time"
    assert {told["cause"] for told in store.failures(SPEC.key)} == {"time", "preempted"}


@pytest.mark.parametrize(
    ("had", "has", "final"),
    [
        (1000, 1001, False),
        (1000, 1000, True),
        (1000, 999, True),
        (1000, None, True),
        (None, 1000, True),
        (None, None, True),
    ],
)
def test_a_run_that_needed_more_memory_is_tried_with_more(
    store: Store, had: int | None, has: int | None, final: bool
) -> None:
    """A run that ran out of memory is tried again only with more memory than before."""
    facts = {} if had is None else {"memory_mb": had}
    record_failure(store, SPEC, new_attempt_id(), "memory", "too much", **facts)
    assert is_final(store, SPEC.key, has) is final


def test_more_memory_matters_for_no_other_cause(store: Store) -> None:
    """A failure with another cause stays as final as it was."""
    fail(store, "error")
    assert is_final(store, SPEC.key, 10**6)

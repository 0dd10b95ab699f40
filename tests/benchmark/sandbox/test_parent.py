"""A search in a process of its own gives what the same search gives here, interrupted or not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from factories import spec_of
from torch import nn

from paibench.benchmark.data.dataset import load
from paibench.benchmark.execution.attempt import Failed, attempt
from paibench.benchmark.execution.process_tree import tree
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.sandbox.check import check_in_sandbox
from paibench.benchmark.sandbox.parent import search_in_sandbox
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.search import SearchResult, find, to_mask
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask_file import digest
from paibench.methods.core.registry import names, use_file
from paibench.methods.core.task import Task
from paibench.methods.training.services import Interrupted, Services

DIGITS = load("digits", {}, None, "cpu", 0)
STEPS = 2 * 23

OWN = '''
"""A search with trainings, in a file of its own."""

import time

from paibench.methods.baselines.imp import imp
from paibench.methods.training.loop import Diverged
from paibench.methods.core.registry import UserError
from paibench.methods.core.ticket import Ticket


def staged(net, task, density):
    return imp(net, task, density, rate=0.5)


def late(net, task, density):
    """A ticket with weights, a late start and a supermask of its own."""
    found = imp(net, task, density, rounds=2, after="finetune")
    return Ticket(found.mask, found.weights, start=7, finetune=True, native=(found.weights,))


def diverges(net, task, density):
    raise Diverged(3)


def cannot(net, task, density):
    raise UserError("this network has no layer to begin with; take another")


def asks(net, task, density):
    """Says what it is given, by raising it."""
    facts = (task.seed, task.examples, task.classes, task.shape, task.steps, str(task.device))
    raise RuntimeError(repr(facts))


def quiet(net, task, density):
    time.sleep(600)
'''


@pytest.fixture
def method(tmp_path: Path) -> Callable[[str], str]:
    """The name of a function in a file that is not installed."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return lambda function: use_file(f"{file}:{function}")


def here(spec: Spec, net: nn.Module) -> SearchResult:
    recipe = recipe_of(spec.recipe)
    task = Task(DIGITS.train, seed=spec.seed, recipe=recipe, stream=spec.method.name)
    torch.set_num_threads(1)
    return to_mask(spec, net, find(spec, net, task), task.steps, task.device)


def apart(spec: Spec, net: nn.Module) -> SearchResult:
    found = search_in_sandbox(spec, net, DIGITS, RunSettings(), Services())
    return to_mask(spec, net, found, STEPS, torch.device("cpu"))


def record_of(store: Store, spec: Spec, **fields: Any) -> dict[str, Any]:
    assert attempt(spec, store, **fields) == "done"
    return Record.read(store.read_record(spec.key)).stable()


QUICK = ("random", "imp")  # one that is a function of the shapes, and one that trains


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names()],
)
def test_the_same_as_here(name: str) -> None:
    """Mask, cost and the start of training are those of the same search in this process."""
    spec = spec_of(name, density=1.0 if name == "dense" else 0.1)
    net = make_network(spec, DIGITS, spec.seed)
    ours, theirs = here(spec, net), apart(spec, net)
    assert digest(ours.mask) == digest(theirs.mask)
    assert ours.cost == theirs.cost
    assert ours.ticket.start == theirs.ticket.start
    assert theirs.isolation
    assert theirs.seconds > 0
    assert theirs.peak_mb > 0


def test_a_ticket_with_all_that_it_may_have(method: Callable[[str], str]) -> None:
    """Weights, start, the way of training and supermasks come back as well."""
    spec = spec_of(method("late"))
    net = make_network(spec, DIGITS, spec.seed)
    ours, theirs = here(spec, net).ticket, apart(spec, net).ticket
    assert (theirs.start, theirs.finetune) == (7, True)
    for one, other in ((ours.weights, theirs.weights), (ours.native[0], theirs.native[0])):
        assert one is not None
        assert other is not None
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "control",
    [
        "shuffle",
        pytest.param("reinit", marks=pytest.mark.slow),
        pytest.param("invert", marks=pytest.mark.slow),
    ],
)
def test_controls(method: Callable[[str], str], control: str, tmp_path: Path) -> None:
    """They are applied outside, to what came back, as to any method's."""
    spec = spec_of(method("staged"), control=control)
    trusted = record_of(Store.open(tmp_path / "a"), spec, settings=RunSettings(trusted=True))
    assert record_of(Store.open(tmp_path / "b"), spec) == trusted


def test_what_is_handed_over(method: Callable[[str], str], tmp_path: Path) -> None:
    """The task has the run's own seed, its training split, and its recipe."""
    spec = spec_of(method("asks"), seed=7)
    with pytest.raises(Failed) as caught:
        attempt(spec, Store.open(tmp_path / "store"))
    assert str(caught.value).endswith(": RuntimeError: (7, 1437, 10, (1, 8, 8), 46, 'cpu')")


@pytest.mark.slow
def test_diverged_and_refused(method: Callable[[str], str], tmp_path: Path) -> None:
    """A loss that is not finite makes a record; what a method cannot do is bad input."""
    store = Store.open(tmp_path / "store")
    spec = spec_of(method("diverges"))
    assert attempt(spec, store) == "done"
    record = Record.read(store.read_record(spec.key))
    assert (record.status, record.reason) == ("diverged", "the loss was not finite at step 3")
    with pytest.raises(Failed, match="this network has no layer to begin with") as caught:
        attempt(spec_of(method("cannot")), store)
    assert caught.value.cause == "input"


@pytest.mark.slow
def test_a_search_that_is_silent(method: Callable[[str], str], tmp_path: Path) -> None:
    """It is killed after the seconds that it has, and its note says so."""
    with pytest.raises(Failed, match="the search took more than its 1.5 s; killed") as caught:
        attempt(
            spec_of(method("quiet")),
            Store.open(tmp_path / "store"),
            RunSettings(search_seconds=1.5),
        )
    assert caught.value.cause == "time"
    assert len(tree(os.getpid())) == 1


# -- stages and checkpoints ------------------------------------------------------------------------


@pytest.mark.slow
def test_stages_are_shared(method: Callable[[str], str], tmp_path: Path) -> None:
    """What one run computed another finds, and both cost what they would cost alone."""
    store, name = Store.open(tmp_path / "store"), method("staged")
    dense, sparse = (spec_of(name, density=density) for density in (0.25, 0.0625))
    alone = record_of(Store.open(tmp_path / "alone"), sparse)
    record_of(store, dense)
    before = set(store.root.glob("stages/*/*/*.safetensors"))
    assert len(before) == 2
    assert record_of(store, sparse) == alone
    assert len(set(store.root.glob("stages/*/*/*.safetensors"))) == 4


LONGER = {"recipe": {"name": "smoke", "epochs": 40}, "density": 0.125}


def kept(store: Store) -> list[Path]:
    return list(store.root.glob("stages/*/*/*/checkpoints/*.pt"))


@pytest.mark.slow
def test_left_within_a_search(method: Callable[[str], str], tmp_path: Path) -> None:
    """Asked to leave, it is kept at the step that it is at, and goes on with the same bits."""
    spec = spec_of(method("staged"), **LONGER)
    alone = record_of(Store.open(tmp_path / "alone"), spec)
    store = Store.open(tmp_path / "store")
    with pytest.raises(Interrupted):
        attempt(
            spec,
            store,
            RunSettings(checkpoint_seconds=0.05),
            should_stop=lambda: bool(kept(store)),
        )
    assert kept(store)
    assert len(tree(os.getpid())) == 1
    assert not (store.run_folder(spec.key) / "claim").exists()
    assert record_of(store, spec) == alone


@pytest.mark.slow
def test_killed_within_a_search(method: Callable[[str], str], tmp_path: Path) -> None:
    """SIGKILL costs what was not kept; the next attempt goes on from there, with the same bits."""
    spec = spec_of(method("staged"), **LONGER)
    alone = record_of(Store.open(tmp_path / "alone"), spec)
    store = Store.open(tmp_path / "store")

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not kept(store):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(tree(os.getpid())[-1], signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    with pytest.raises(Failed, match="ended with signal SIGKILL"):
        attempt(spec, store, RunSettings(checkpoint_seconds=0.02))
    killer.join()
    assert record_of(store, spec) == alone


# -- a trial ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trial(method: Callable[[str], str]) -> None:
    """A method that works passes with the walls said, one that does not fails with its words."""
    passed = check_in_sandbox(method("staged"), 60)
    assert (passed.outcome, passed.actual[:21]) == ("passed", "isolated by: process,")
    failed = check_in_sandbox(method("asks"), 60)
    assert (failed.outcome, failed.actual[:14]) == ("failed", "RuntimeError: ")

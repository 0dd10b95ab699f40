"""What a stranger's method tries, and what comes of it: its own run is all that it can spoil."""

import json
import os
import re
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from factories import PLUGINS, spec_of

from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.pool import Event, Pool
from paibench.benchmark.execution.process_tree import tree
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.records import Problem
from paibench.benchmark.store.store import Store
from paibench.methods.core import registry

pytestmark = pytest.mark.slow  # two sweeps, one of all that is hostile
HOSTILE = PLUGINS / "hostile"
SECONDS = 30.0
LIMIT_MB = 2_500

NOTHING_CAME = "and handed nothing back"
COSTS_ITS_RUN = {
    # it ends, hangs or raises
    "raises": ("plugin", r"RuntimeError: first second \\x1b\[31m"),
    "raises_mute": ("plugin", "Mute: its message cannot be read"),
    "leaves": ("plugin", "SystemExit: 0"),
    "leaves_at_once": ("plugin", f"its process ended with exit status 0, {NOTHING_CAME}"),
    "crashes": ("plugin", "its process ended with signal SIGSEGV"),
    "segfaults": ("plugin", "its process ended with signal SIGSEGV"),
    "hangs": ("time", f"the search took more than its {SECONDS:g} s; killed"),
    "hangs_below_python": ("time", f"the search took more than its {SECONDS:g} s; killed"),
    "spins": ("time", f"the search took more than its {SECONDS:g} s; killed"),
    "gives_signs_for_ever": ("time", f"the search took more than its {SECONDS:g} s; killed"),
    "closes_pipes": ("plugin", f"it closed its channel, {NOTHING_CAME}"),
    "cannot_be_imported": ("plugin", "it cannot be imported: ModuleNotFoundError"),
    # it takes too much
    "asks_too_much": ("memory", "allocate memory"),
    "out_of_memory": ("memory", "MemoryError: no message"),
    "fills_memory": ("memory", "MemoryError"),
    "fills_shared_memory": ("memory", r"the search held \d+ MiB of 2500"),
    "fills_the_disk": ("plugin", "it wrote more than 1024 MiB to its folder"),
    "writes_one_file": ("plugin", "File too large|wrote more than 1024 MiB"),
    "writes_many_files": ("plugin", "it wrote more than 1024 MiB to its folder"),
    "forks_without_end": (
        "plugin|memory|time",
        f"processes|MiB of 2500|took more than its {SECONDS:g} s",
    ),
    # what it hands back is not what was asked for
    "gives_nothing": ("plugin", "expected a Mask, Scores, Channels or a Ticket, got NoneType"),
    "keeps_one_more": ("plugin", "mask keeps 5021 of 50200 weights, density 0.1 asks for 5020"),
    "scores_nan": ("plugin", "1 of 50200 scores are NaN"),
    "scores_words": ("plugin", "scores of fc1.weight is 'high', needed a tensor"),
    "gives_integers": ("plugin", "mask of fc1.weight has dtype torch.int32, needed torch.bool"),
    "forgets_a_layer": ("plugin", "nothing for the prunable weights 'fc3.weight'"),
    "adds_a_layer": ("plugin", "names that are no prunable weights: '../../x'"),
    "turns_a_layer": ("plugin", r"fc1.weight has shape \(64, 300\), needed \(300, 64\)"),
    "starts_late": ("plugin", "the ticket starts at step 47, not in 0 to 46"),
    "gives_other_weights": ("plugin", "weights for 'fc9.weight', which the network has not"),
    "swaps_weights": ("plugin", r"the ticket's fc1.weight has shape \(2, 2\), needed \(300, 64\)"),
    "counts_below_zero": ("plugin", "cannot keep -4980 of 30000 weights"),
    "lies_about_its_mask": ("plugin", "mask keeps 50200 of 50200 weights, density 0.1 asks for"),
    "patches_the_harness": ("plugin", "it sent an unexpected message: the bytes are no message"),
    # it speaks where it is not asked
    "speaks_noise": ("plugin", "it sent an unexpected message"),
    "speaks_too_long": ("plugin", r"a message that carries 1152921504606846976 bytes; at most \d+"),
    "speaks_nonsense": ("plugin", "it sent an unexpected message: 'record'"),
    "counts_backwards": ("plugin", "it says forward = -10000, which is no count"),
    "hands_back_a_pickle": ("plugin", "what it handed back: its header does not say what it is"),
    "hands_back_a_huge_header": ("plugin", "what it handed back: its header does not say what"),
    "climbs_by_a_stage": ("plugin", r"stage '../../../runs/x' cannot be used"),
    "keeps_a_huge_stage": ("plugin", r"a message that carries \d+ bytes; at most \d+ are taken"),
}
GETS_NOWHERE = [
    *("searches_its_process", "searches_its_files", "reads_the_embedded_set"),
    *("reads_the_data_folder", "reads_the_harness", "traces_the_harness", "kills_the_harness"),
    *("writes_to_the_store", "writes_elsewhere", "speaks_with_the_world", "looks_for_secrets"),
    *("frees_itself", "leaves_traps", "leaves_a_daemon", "leaves_threads", "runs_others"),
    *("prints_without_end", "returns_twice", "reads", "spoils", "draws_globally", "holds"),
    *(
        "keeps_seven",
        "hides_its_cost",
        "trains_the_harness",
        "changes_the_data",
        "uses_the_temporary_folder",
    ),
]
"""Their masks are sound, and they raise where they get through."""


GOOD = [
    *(spec_of(name, seed=seed) for name in ("random", "snip", "magnitude") for seed in (0, 1)),
    *(spec_of({"name": "imp", "rate": 0.5}, seed=seed) for seed in (0, 1)),
    *(spec_of("prints", seed=seed) for seed in (0, 1)),
    spec_of("magnitude", control="invert"),
]


class Sieged(NamedTuple):
    """What became of all these methods and of good ones in one sweep."""

    store: Store
    events: dict[str, Event]
    processes: list[int]
    folder: Path


@pytest.fixture(scope="module")
def siege() -> Iterator[Sieged]:
    """One sweep, in which every hostile run has good ones beside it."""
    with (
        tempfile.TemporaryDirectory() as name,
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        folder = Path(name)
        home, data, known = folder / "home", folder / "data", folder / "known"
        for place in (home, data, known):
            place.mkdir()
        (home / "key").write_text("a secret")
        (data / "test").write_text("labels")
        store = Store.open(folder / "store")
        told = {"home": home, "data": data, "store": store.root}
        facts = {name: str(path) for name, path in told.items()}
        numbers = {"pid": os.getpid(), "port": server.getsockname()[1]}
        (known / "known.json").write_text(json.dumps(facts | numbers))
        patch.setenv("HOME", str(home))
        patch.setenv("API_KEY", "a secret")
        patch.setenv("PYTHONPATH", f"{known}{os.pathsep}{HOSTILE}")
        patch.syspath_prepend(str(HOSTILE))
        registry._entries.cache_clear()
        hostile = [spec_of(name) for name in (*COSTS_ITS_RUN, *GETS_NOWHERE)]
        good = iter(GOOD * len(hostile))
        beside = {spec.key: spec for bad in hostile for spec in (bad, next(good))}
        settings = RunSettings(jobs=2, memory_mb=LIMIT_MB, search_seconds=SECONDS, data=data)
        before = set(tree(os.getpid()))
        events = {event.spec.key: event for event in Pool(store, settings).run([*beside.values()])}
        left = sorted(set(tree(os.getpid())) - before)
        yield Sieged(store, events, left, folder)
    registry._entries.cache_clear()


@pytest.mark.parametrize("name", COSTS_ITS_RUN)
def test_it_costs_its_own_run(siege: Sieged, name: str) -> None:
    """A `failed` note with the cause and a reason of one line, and no record."""
    spec, (cause, reason) = spec_of(name), COSTS_ITS_RUN[name]
    event = siege.events[spec.key]
    assert event.outcome == "failed"
    assert event.cause in cause.split("|"), event.reason
    assert re.search(reason, event.reason), event.reason
    assert event.reason.isprintable()
    assert event.cause != "plugin" or event.reason.startswith(f"{name} (hostile 1.0): ")
    assert not siege.store.is_done(spec.key)
    note = siege.store.last_failure(spec.key)
    assert note is not None
    assert note["reason"] == event.reason


@pytest.mark.parametrize("name", GETS_NOWHERE)
def test_it_gets_nowhere(siege: Sieged, name: str) -> None:
    """What it tried was refused, and its record is that of any sound method."""
    spec = spec_of(name)
    event = siege.events[spec.key]
    assert (event.outcome, event.reason) == ("done", "")
    record = Record.read(siege.store.read_record(spec.key))
    assert (record.status, record.kept, record.at_initialization) == ("done", 5020, True)
    assert record.environment.plugin == "hostile"
    assert "process" in (record.environment.isolation or "")


@pytest.mark.parametrize("spec", GOOD, ids=str)
def test_good_runs_beside_it_are_as_in_peace(siege: Sieged, spec: Spec, tmp_path: Path) -> None:
    """Their records equal those of a clean sweep in every stable field."""
    store = Store.open(tmp_path / "peace")
    assert attempt(spec, store) == "done"
    there, here = (Record.read(each.read_record(spec.key)) for each in (siege.store, store))
    assert there.stable() == here.stable()


def test_the_store_is_sound(siege: Sieged) -> None:
    """No record is broken, doubled or moved aside, and none is there that nobody asked for."""
    store = siege.store
    assert [found for found in store.records() if isinstance(found, Problem)] == []
    done = {key for key, event in siege.events.items() if event.outcome == "done"}
    assert store.listing().done == done
    assert list(store.root.rglob("divergence.json")) == []
    assert list((store.root / "quarantine").iterdir()) == []
    assert list(store.root.glob("runs/*/*/claim")) == []


def test_nothing_is_left(siege: Sieged) -> None:
    """No process, no file outside of its folder, and no folder of a search."""
    assert siege.processes == []
    places = (HOSTILE, Path("/tmp"), siege.folder / "home")
    assert [place for place in places if (place / "left-by-hostile").exists()] == []
    assert sorted(path.name for path in (siege.folder / "data").iterdir()) == ["test"]


def test_what_a_search_cost_is_counted_outside(siege: Sieged) -> None:
    """A method that sets its own count back has two passes forward and two back all the same."""
    record = Record.read(siege.store.read_record(spec_of("hides_its_cost").key))
    assert (record.search_forward, record.search_backward) == (2 * 1437, 2 * 1437)


def test_prints_are_bounded_and_plain(siege: Sieged) -> None:
    """At most a megabyte of what a method prints is kept, and no control character."""
    logs = [path.read_bytes() for path in siege.store.root.rglob("log.txt")]
    assert 2**20 <= max(map(len, logs)) < 4 * 2**20
    assert not any(b"\x1b" in log or b"\x07" in log for log in logs)


def test_a_method_that_stops_at_nothing_stops_nobody(siege: Sieged, tmp_path: Path) -> None:
    """The same run by hand, in this very process: it ends, and the signal handlers are ours."""
    before = signal.getsignal(signal.SIGTERM)
    store = Store.open(tmp_path / "store")
    with pytest.raises(Exception, match="took more than its 1 s; killed"):
        attempt(spec_of("hangs"), store, RunSettings(search_seconds=1.0))
    assert signal.getsignal(signal.SIGTERM) is before

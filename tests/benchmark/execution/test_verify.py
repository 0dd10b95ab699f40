"""A run done again: identical, as near as seeds are to each other, or different."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import pytest

from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.execution.verify import Verification, compare, verify
from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.store import Store

Say = Callable[..., tuple[int, str, str]]


def spec_of(seed: int = 0, **fields: Any) -> Spec:
    return factories.spec_of(**{"method": "snip", "seed": seed} | fields)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three seeds of one run."""
    store = Store.open(tmp_path / "store")
    for seed in range(3):
        attempt(spec_of(seed), store)
    return store


def record_of(store: Store, seed: int = 0) -> Record:
    return Record.read(store.read_record(spec_of(seed).key))


def test_identical(store: Store) -> None:
    """Every stable field is the same, on the same machine."""
    found = verify(record_of(store), RunSettings(), store)
    assert (found.verdict, found.differing, found.difference) == ("identical", [], 0.0)
    assert (found.seeds, found.moved_fraction) == (3, 0.0)


def test_an_older_record_lacks_newer_fields(store: Store) -> None:
    """A field that its schema does not have is no difference; one that it has is."""
    new = record_of(store)
    plain = new.plain()
    del plain["predictions_file"]
    old = Record.read(plain | {"schema": 4})
    assert compare(old, new, store, 0.0).verdict == "identical"
    assert compare(old.model_copy(update={"ties": 7}), new, store, 0.0).differing == ["ties"]
    assert compare(Record.read(plain), new, store, 0.0).differing == ["predictions_file"]


def test_nothing_is_written(store: Store) -> None:
    """The store of the record is as before."""
    before = sorted(store.root.rglob("*"))
    verify(record_of(store), RunSettings(), store)
    assert sorted(store.root.rglob("*")) == before


def elsewhere(record: Record) -> Record:
    """The same record from another kind of machine."""
    far = record.environment.model_copy(update={"device": "abacus", "threads": 7})
    return record.model_copy(update={"environment": far})


NEAR = "within the seed interval"


@pytest.mark.parametrize(
    ("off", "far", "verdict"),
    [
        (0.004, True, NEAR),
        (-0.004, True, NEAR),
        (2.0, True, "different"),
        (0.004, False, "different"),
    ],
)
def test_another_accuracy(store: Store, off: float, far: bool, verdict: str) -> None:
    """By how much it is off is told; on another machine it may be off as far as seeds are."""
    then = elsewhere(record_of(store)) if far else record_of(store)
    assert then.accuracy is not None
    claimed = then.model_copy(update={"accuracy": then.accuracy + off})
    found = verify(claimed, RunSettings(), store)
    assert found.verdict == verdict
    assert found.differing == ["accuracy"]
    assert found.difference == pytest.approx(-off)


def test_the_interval_is_that_of_the_seeds(store: Store) -> None:
    """Three standard deviations over the seeds that there are, and at least half a point."""
    accuracies = [record_of(store, seed).accuracy or 0.0 for seed in range(3)]
    mean = sum(accuracies) / 3
    spread = (sum((each - mean) ** 2 for each in accuracies) / 2) ** 0.5
    assert verify(record_of(store), RunSettings(), store).interval == pytest.approx(3 * spread)
    alone = verify(record_of(store), RunSettings())
    assert (alone.interval, alone.seeds) == (0.005, 1)


def test_another_mask(store: Store) -> None:
    """A record with the mask of another seed is found out, with how much of it moved."""
    then, other = record_of(store), record_of(store, 1)
    swapped = then.model_copy(update={"mask_sha256": other.mask_sha256})
    found = verify(swapped, RunSettings(), store)
    assert found.differing == ["mask_sha256"]
    assert found.moved_fraction == 0.0  # the file beside the record is the right one
    assert found.verdict == "different"


def test_other_counts_are_never_near(store: Store) -> None:
    """Where another number of weights was kept, no accuracy is near enough."""
    then = record_of(store)
    now = then.model_copy(update={"kept": 1, "accuracy": then.accuracy})
    assert Verification(elsewhere(then), now, 3, 1.0).verdict == "different"


def test_where_it_was_made(store: Store) -> None:
    """What differs between the places is said."""
    found = verify(elsewhere(record_of(store)), RunSettings(), store)
    assert found.environment_differences[0].startswith("device: abacus, now ")
    assert found.environment_differences[1] == "threads: 7, now 1"


# -- as a command ----------------------------------------------------------------------------------


def test_the_command(store: Store, say: Say) -> None:
    """By key or by file, in words or as JSON; status 0 where it is the same."""
    key = spec_of().key
    status, out, err = say("verify", key[:9], "--out", str(store.root))
    assert (status, err) == (0, "")
    assert out.startswith(f"{key}  identical\n  the same mask\n")
    status, out, _ = say("verify", str(store.record_path(key)), "--json")
    facts = json.loads(out)
    assert (status, facts["verdict"], facts["seeds"]) == (0, "identical", 1)


def edited(store: Store, folder: Path, **fields: Any) -> str:
    """The file of a record with other fields and a seal that fits."""
    plain = decode(store.record_path(spec_of().key).read_bytes()) | fields
    path = folder / "edited.json"
    path.write_bytes(encode(plain))
    return str(path)


def test_an_edited_accuracy(store: Store, tmp_path: Path, say: Say) -> None:
    """It is different, by so much, with status 1."""
    status, out, _ = say("verify", edited(store, tmp_path, accuracy=0.999))
    assert status == 1
    assert "  different\n" in out
    assert "0.9990 then: -" in out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": "0" * 40}, "is not the key of its spec"),
        ({"accuracy": 7}, "accuracy: "),
        ({"kept": 3}, "layer_kept does not add up"),
    ],
    ids=["key", "range", "counts"],
)
def test_a_record_that_cannot_be_trusted(
    store: Store, tmp_path: Path, say: Say, fields: dict[str, Any], said: str
) -> None:
    """One line, status 3, and nothing is run."""
    status, out, err = say("verify", edited(store, tmp_path, **fields))
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("run", "status", "said"),
    [
        ("no/such.json", 2, "cannot be read: No such file"),
        ("zzzz", 2, "no run begins with 'zzzz'"),
        ("/proc/self/mem/x.json", 2, "cannot be read: "),
    ],
)
def test_nothing_to_verify(store: Store, say: Say, run: str, status: int, said: str) -> None:
    """One line says what is not there."""
    found, _, err = say("verify", run, "--out", str(store.root))
    assert (found, err.count("\n")) == (status, 1)
    assert said in err


@pytest.mark.slow
def test_a_method_in_a_file(tmp_path: Path, say: Say) -> None:
    """It is verified where its file is given, and refused where that has changed."""
    file, store = tmp_path / "mine.py", tmp_path / "store"
    text = (
        "from paibench.methods.baselines.random import random\n\n\ndef mine(net, task, density):\n"
    )
    file.write_text(f"{text}    return random(net, task, density)\n")
    run = ("run", "--method", f"{file}:mine", "--density", "0.5", "--recipe", "smoke")
    status, out, _ = say(*run, "--out", str(store), "--json")
    record = json.loads(out)
    assert (status, record["environment"]["plugin"]) == (0, "local file")
    assert record["spec"]["method"].startswith("local:mine.")
    again = ("verify", record["key"], "--out", str(store), "--method", f"{file}:mine")
    assert say(*again)[0] == 0
    file.write_text(f"{text}    return random(net, task, density, layers='uniform')\n")
    from paibench.methods.core import registry

    registry._files.clear()
    status, _, err = say(*again)
    assert status == 2
    assert "is a function in a file that has changed or is not known here" in err

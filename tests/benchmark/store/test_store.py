"""Runs in a store: published once, failures listed, damaged files reported."""

import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.store.atomic import LIMIT, StoreError
from paibench.benchmark.store.checksummed_json import Corrupt, encode
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.records import SCHEMA, NewerSchema, Problem, StoredRecord
from paibench.benchmark.store.store import Listing, Store
from paibench.methods.core.registry import UserError

KEY = "ab" + "0" * 38
OTHER = "ab" + "1" * 38
ATTEMPT = "host.1.00000000"


def record(key: str = KEY, **fields: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "key": key, "accuracy": 0.5} | fields


def listing(done: Collection[str] = (), failed: Collection[str] = ()) -> Listing:
    return Listing(frozenset(done), frozenset(failed))


def plant(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


# -- records -------------------------------------------------------------------------------------


def test_a_published_record_makes_its_run_done(store: Store) -> None:
    """A published record is listed, read and iterated."""
    assert not store.is_done(KEY)
    assert store.publish_record(KEY, record(), ATTEMPT) == "new"
    assert store.is_done(KEY)
    assert store.read_record(KEY) == record()
    assert list(store.records()) == [StoredRecord(store.record_path(KEY), record())]
    assert store.listing() == listing(done={KEY})


def test_records_come_in_the_order_of_their_keys(store: Store) -> None:
    """Two iterations over a store give the same sequence."""
    keys = sorted(f"{random.Random(number).getrandbits(160):040x}" for number in range(50))
    for key in reversed(keys):
        store.publish_record(key, record(key), ATTEMPT)
    found = list(store.records())
    assert [entry.path.stem for entry in found] == keys
    assert list(Store.read(store.root).records()) == found


def test_the_first_valid_record_wins_and_a_divergence_is_kept(store: Store) -> None:
    """Another result for the same run goes to its attempt's folder; the record does not change."""
    store.publish_record(KEY, record(seconds=1.0), ATTEMPT)
    attempt = new_attempt_id()
    folder = store.attempt_folder(KEY, attempt)
    assert store.publish_record(KEY, record(seconds=2.0), attempt, {"seconds"}) == "already"
    assert not folder.exists()
    second = record(accuracy=0.6, device="cpu", seconds=2.0)
    assert store.publish_record(KEY, second, attempt, {"seconds"}) == "already"
    divergence = encode({"fields": ["accuracy", "device"], "record": second})
    assert (folder / "divergence.json").read_bytes() == divergence
    assert store.read_record(KEY) == record(seconds=1.0)


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.with_suffix(".target").write_bytes(encode(record()))
    path.symlink_to(path.with_suffix(".target"))


GOOD = encode(record())
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: plant(path, b'{"trunc'), "not valid JSON"),
    "cut at the end": (lambda path: plant(path, GOOD[:-3]), "not valid JSON"),
    "empty": (lambda path: plant(path, b""), "not valid JSON"),
    "tampered": (lambda path: plant(path, GOOD.replace(b"0.5", b"0.9")), "seal does not fit"),
    "symbolic link": (_link, "not a plain file"),
    "FIFO": (os.mkfifo, "not a plain file"),
    "folder": (_folder, "not a plain file"),
    "over a megabyte": (
        lambda path: plant(path, encode(record(note="x" * LIMIT))),
        "bytes; at most 1048576",
    ),
    "of another run": (lambda path: plant(path, encode(record(OTHER))), "key is not its file name"),
    "without a key": (lambda path: plant(path, encode({"schema": 1})), "key is not its file name"),
    "without a schema": (lambda path: plant(path, encode({"key": KEY})), "no schema number"),
    "schema is true": (lambda path: plant(path, encode(record(schema=True))), "no schema number"),
    "schema is zero": (lambda path: plant(path, encode(record(schema=0))), "no schema number"),
}


@pytest.mark.parametrize(("make", "reason"), BROKEN.values(), ids=BROKEN)
def test_readers_report_a_damaged_record_and_its_owner_replaces_it(
    store: Store, make: Callable[[Path], object], reason: str
) -> None:
    """Readers report file and reason; the owner moves it to quarantine and publishes its own."""
    make(store.record_path(KEY))
    store.publish_record(OTHER, record(OTHER), ATTEMPT)
    broken, sound = store.records()
    assert isinstance(broken, Problem) and broken.path == store.record_path(KEY)
    assert reason in broken.reason and "\n" not in broken.reason
    assert sound == StoredRecord(store.record_path(OTHER), record(OTHER))
    with pytest.raises(Corrupt, match=reason):
        store.read_record(KEY)

    assert store.publish_record(KEY, record(), ATTEMPT) == "new"
    assert store.read_record(KEY) == record()
    (aside,) = os.listdir(store.root / "quarantine")
    assert aside.startswith(f"{KEY}.json.corrupt.")


def test_a_record_of_a_later_schema_is_kept_and_counted(store: Store) -> None:
    """A record that a later program wrote is neither replaced nor moved."""
    data = encode({"schema": SCHEMA + 1, "id": KEY})
    plant(store.record_path(KEY), data)
    reason = f"schema {SCHEMA + 1}; this program reads <= {SCHEMA}; update paibench"
    assert list(store.records()) == [Problem(store.record_path(KEY), reason)]
    with pytest.raises(NewerSchema, match=f"schema {SCHEMA + 1}"):
        store.read_record(KEY)
    assert store.publish_record(KEY, record(), ATTEMPT) == "already"
    assert not store.quarantine(KEY)
    assert store.record_path(KEY).read_bytes() == data


@pytest.mark.parametrize("name", ["notes.json", "cd" + "0" * 38 + ".json", KEY.upper() + ".json"])
def test_a_foreign_file_among_the_records_is_a_problem(store: Store, name: str) -> None:
    """A valid record whose name is not a key of its folder is reported, not counted."""
    path = store.root / "runs" / "ab" / name
    plant(path, GOOD)
    (problem,) = store.records()
    assert problem == Problem(path, "its name is not the key of a run of this folder")
    assert store.listing().done == set()


def test_only_a_damaged_record_is_moved_to_quarantine(store: Store) -> None:
    """A sound record stays; after a damaged one is moved, its run is missing."""
    assert not store.quarantine(KEY)
    store.publish_record(KEY, record(), ATTEMPT)
    assert not store.quarantine(KEY)
    plant(store.record_path(OTHER), b"{")
    assert store.quarantine(OTHER)
    assert store.listing().done == {KEY}
    assert len(os.listdir(store.root / "quarantine")) == 1


UNFIT: dict[str, dict[str, Any]] = {
    "key of another": record(OTHER),
    "later schema": record(schema=SCHEMA + 1),
    "not finite": record(loss=float("nan")),
    "too large": record(note="x" * LIMIT),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_a_record_that_would_not_be_read_is_not_published(
    store: Store, unfit: dict[str, Any]
) -> None:
    """The writer gets the error, and the run stays missing."""
    with pytest.raises(ValueError):
        store.publish_record(KEY, unfit, ATTEMPT)
    assert store.listing().done == set()


@pytest.mark.parametrize("key", ["", "../../etc", "AB" + "0" * 38, "ab", KEY + "/"])
def test_only_a_key_gives_a_path(store: Store, key: str) -> None:
    """Any text other than 40 hexadecimal digits is refused."""
    for function in (store.record_path, store.run_folder, store.attempts, store.is_done):
        with pytest.raises(UserError):
            function(key)


# -- files, stages, attempts ---------------------------------------------------------------------


def test_a_file_of_a_run_is_found_by_the_name_it_was_given(store: Store) -> None:
    """The name has the digest in it, so two attempts keep their own bytes."""
    first, second = (store.publish_file(KEY, "mask.safetensors", data) for data in (b"a", b"b"))
    assert first == "mask-ca978112ca1bbdca.safetensors"  # sha256 of "a"
    assert store.publish_file(KEY, "mask.safetensors", b"a") == first
    assert store.read_file(KEY, first) == b"a"
    assert store.read_file(KEY, second) == b"b"
    assert sorted(os.listdir(store.run_folder(KEY))) == sorted([first, second])


def test_a_damaged_file_is_refused_and_replaced(store: Store) -> None:
    """Bytes that do not fit their name are refused; publishing the file again replaces them."""
    name = store.publish_file(KEY, "curves.json", b"[1, 2]")
    path = store.run_folder(KEY) / name
    path.unlink()
    plant(path, b"[1, 3]")
    with pytest.raises(Corrupt, match="do not fit its name"):
        store.read_file(KEY, name)
    assert store.publish_file(KEY, "curves.json", b"[1, 2]") == name
    assert store.read_file(KEY, name) == b"[1, 2]"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a" * 64])
def test_a_file_with_a_hostile_name_is_refused(store: Store, name: str) -> None:
    """The rule for names applies to files and stages."""
    with pytest.raises(UserError):
        store.publish_file(KEY, name, b"")
    with pytest.raises(UserError):
        store.stage_path("scope", name if name != "a" * 64 else name + "a")


def test_the_first_stage_is_shared(store: Store) -> None:
    """Every run reads the first bytes of a stage; damaged ones are moved and computed again."""
    assert store.read_stage("0a1b", "level-3") is None
    assert store.publish_stage("0a1b", "level-3", b"first") == "new"
    assert store.publish_stage("0a1b", "level-3", b"second") == "already"
    assert store.read_stage("0a1b", "level-3") == b"first"
    path = store.root / "stages" / "0a" / "0a1b" / "level-3.safetensors"
    assert store.stage_path("0a1b", "level-3") == path
    store.discard_stage("0a1b", "level-3")
    assert store.read_stage("0a1b", "level-3") is None
    assert len(os.listdir(store.root / "quarantine")) == 1
    store.discard_stage("0a1b", "level-3")


def test_failures_are_listed_beside_the_records_until_there_is_one(store: Store) -> None:
    """The last failure lies beside the record, and all failures are listed in order."""
    assert store.failures(KEY) == [] and store.last_failure(KEY) is None
    notes = []
    for number in (1, 2):
        attempt = new_attempt_id()
        store.publish_failure(KEY, attempt, {"reason": f"boom {number}"})
        notes.append({"reason": f"boom {number}", "key": KEY, "attempt": attempt})
        os.utime(store.attempt_folder(KEY, attempt) / "failure.json", (number, number))
    assert store.failures(KEY) == notes
    assert store.last_failure(KEY) == notes[-1]
    assert store.listing() == listing(failed={KEY})
    assert list(store.records()) == []

    store.publish_record(KEY, record(), ATTEMPT)
    assert store.listing() == listing(done={KEY})
    assert store.last_failure(KEY) is None
    assert store.failures(KEY) == notes
    store.publish_failure(KEY, new_attempt_id(), {"reason": "late"})
    assert store.listing() == listing(done={KEY})


def test_a_damaged_failure_still_counts_as_one(store: Store) -> None:
    """The retry rules count failures, so damage must not hide one."""
    attempt = new_attempt_id()
    folder = store.attempt_folder(KEY, attempt)
    folder.mkdir(parents=True)
    plant(folder / "failure.json", b"{")
    assert store.attempts(KEY) == [attempt]
    (note,) = store.failures(KEY)
    assert note["attempt"] == attempt and note["reason"].startswith("unreadable: not valid JSON")


def test_temporary_files_are_removed_after_a_day(store: Store) -> None:
    """Old temporary files are removed; new ones and finished files stay."""
    store.publish_record(KEY, record(), ATTEMPT)
    folder = store.run_folder(KEY)
    folder.mkdir()
    for place in (store.root, folder.parent, folder):
        (place / ".tmp-young").touch()
        (place / ".tmp-old").touch()
        os.utime(place / ".tmp-old", (time.time() - 86_500,) * 2)
    os.utime(store.record_path(KEY), (0, 0))
    assert len(list(store.records())) == 1
    assert store.remove_temporary_files() == 3
    assert store.remove_temporary_files() == 0
    assert store.is_done(KEY) and (folder / ".tmp-young").exists()


# -- many writers --------------------------------------------------------------------------------


def test_a_run_that_is_done_has_no_lease(store: Store) -> None:
    """One process at a time holds the lease of a run, and none once it is done."""
    held = store.acquire_lease(KEY, ATTEMPT)
    assert held is not None
    assert store.acquire_lease(KEY, ATTEMPT) is None
    store.publish_record(KEY, record(), ATTEMPT)
    held.release()
    assert store.acquire_lease(KEY, ATTEMPT) is None
    assert os.listdir(store.run_folder(KEY)) == []


def _work(store: Store, keys: list[str], seed: int) -> None:
    """Do every run that is missing and has no lease, until all are done."""
    chance = random.Random(seed)
    last = keys[-1]  # waits until enough workers were killed, however fast the others are
    chance.shuffle(keys)
    while not store.listing().done >= set(keys):
        for key in keys:
            if key == last and not (store.root / "enough-kills").exists():
                continue
            held = (
                None if store.is_done(key) else store.acquire_lease(key, f"w{os.getpid()}.{seed}")
            )
            if held is None:
                continue
            attempt = new_attempt_id()
            time.sleep(chance.uniform(0.02, 0.08))  # the training
            store.publish_record(key, record(key, attempt=attempt), attempt, {"attempt"})
            held.release()


def _start(store: Store, keys: list[str], seed: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child takes no locks of others
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _work(store, list(keys), seed)
            status = 0
        finally:
            os._exit(status)
    return pid


def test_four_workers_and_many_kills_lose_nothing(store: Store) -> None:
    """Every run has one valid record, and no more runs are repeated than workers were killed."""
    chance, keys = random.Random(0), [f"{4 * number:02x}{number:038x}" for number in range(60)]
    workers, kills, passes = [_start(store, keys, seed) for seed in range(4)], 0, 0
    while not store.listing().done >= set(keys):
        assert all(isinstance(entry, StoredRecord) for entry in store.records())
        passes += 1
        time.sleep(chance.uniform(0, 0.03))
        if kills < 20:
            victim = chance.randrange(4)
            os.kill(workers[victim], signal.SIGKILL)
            os.waitpid(workers[victim], 0)
            workers[victim] = _start(store, keys, seed=10 + (kills := kills + 1))
            if kills == 3:
                (store.root / "enough-kills").touch()
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0] * 4
    found = list(store.records())
    assert [entry.path.stem for entry in found] == sorted(keys)
    assert repr(found) == repr(list(store.records()))
    assert passes >= kills > 2
    assert sum(len(store.attempts(key)) for key in keys) - len(keys) <= kills


def test_a_disk_that_breaks_every_record_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three damaged records in a row the writer raises StoreError."""
    path, calls = store.record_path(KEY), []

    def break_first(source: Path, target: Path) -> None:
        calls.append(source)
        plant(path, b"{")
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", break_first)
    with pytest.raises(StoreError, match="three times in a row"):
        store.publish_record(KEY, record(), ATTEMPT)
    assert len(calls) == 3
    assert len(os.listdir(store.root / "quarantine")) == 3

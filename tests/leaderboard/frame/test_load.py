"""`paibench.leaderboard.load` gives the frame of a store, and costs nothing before it is called."""

import gc
import subprocess
import sys
from collections.abc import Callable, Iterable
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.record import PROTOCOL, VOLATILE, Record
from paibench.benchmark.spec import Named, Spec
from paibench.benchmark.store.atomic import create_once
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.leaderboard import load as load_runs
from paibench.leaderboard.frame import read
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.leaderboard.frame.load import Frame, load, tabulate
from paibench.leaderboard.frame.read import COMPARED
from paibench.leaderboard.frame.rows import Rows, label, row_of
from paibench.methods.core.registry import UserError

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]


def test_runs_of_a_store(record_factory: RecordFactory, store_factory: StoreFactory) -> None:
    """A row per run with the documented columns, from a path or a text."""
    root = store_factory([record_factory(seed=seed) for seed in (0, 1)])
    runs = load_runs(root)
    assert list(runs.columns) == list(COLUMNS) and len(runs) == 2
    assert runs.equals(load_runs(str(root)))


def test_what_cannot_be_read_is_said(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """A file that is left out is a warning, never silence."""
    root = store_factory([record_factory(seed=seed) for seed in (0, 1)])
    next(
        path
        for path in sorted(root.rglob("*.json"))
        if path.stem.isalnum() and len(path.stem) == 40
    ).write_text("{")
    with pytest.warns(UserWarning, match="unreadable files of the store are left out: 1, first"):
        assert len(load_runs(root)) == 1


def test_without_a_store_there_is_no_frame(tmp_path: Path) -> None:
    """One line says so."""
    with pytest.raises(UserError):
        load_runs(tmp_path / "nowhere")


def test_import_is_cheap() -> None:
    """Neither pandas nor anything else of size is imported before it is needed."""
    code = (
        "import sys, paibench.leaderboard; sys.exit(bool({'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# A store as a frame: each run a row, what failed or is missing a row, what is
# broken a problem.


def sweep(store: Store, records: Iterable[Record]) -> None:
    """Put a sweep of these runs into a store."""
    plain = {"name": "sweep", "runs": {record.key: record.spec for record in records}}
    create_once(store.root / "sweeps" / f"{'0' * 40}.json", encode(plain))


def only(runs: pd.DataFrame, **where: Any) -> dict[str, Any]:
    """The only row with these values, as a plain dict."""
    for name, value in where.items():
        runs = runs[runs[name] == value]
    assert len(runs) == 1
    return {str(name): value for name, value in runs.iloc[0].items()}


def test_a_record_is_a_row_with_all_columns(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """Spec, results, environment and display columns stand flat in one row."""
    method = {"name": "random", "layers": "erk"}
    record = record_factory(method=method, density=0.2, seed=3, accuracy=0.75, model="lenet-5")
    frame = load(store_factory([record]))
    assert list(frame.runs.columns) == list(COLUMNS)
    assert {name: str(kind) for name, kind in frame.runs.dtypes.items()} == {
        name: column.dtype for name, column in COLUMNS.items()
    }
    row = only(frame.runs, key=record.key)
    assert (row["method"], row["method_label"]) == ("random", "random(layers=erk)")
    assert (row["model"], row["dataset"], row["seed"]) == ("lenet-5", "digits", 3)
    assert (row["density_asked"], row["density"]) == (0.2, record.density)
    assert row["sparsity"] == 1 - row["density"]
    assert row["compression"] == 1 / row["density"]
    assert (row["accuracy"], row["accuracy_percent"]) == (0.75, 75.0)
    assert (row["device"], row["threads"], row["split"]) == ("cpu", 1, "test")
    assert row["layer_kept"] == record.layer_kept


def test_a_failed_run_is_a_row_without_results(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """Its spec comes from the failure's note, its reason is kept, its track is its neighbours'."""
    root = store_factory([record_factory(seed=0)])
    lost = record_factory(seed=1)
    store = Store.open(root)
    note = {"spec": lost.spec, "reason": "out of memory"}
    store.publish_failure(lost.key, new_attempt_id(), note)
    row = only(load(root).runs, key=lost.key)
    assert (row["status"], row["reason"]) == ("failed", "out of memory")
    assert (row["split"], row["protocol"]) == ("test", PROTOCOL)
    assert pd.isna(row["accuracy"])


def test_what_a_sweep_asks_for_and_nobody_did_is_missing(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """Of three runs of a sweep, one done and one failed, the third is missing."""
    done, failed, missing = (record_factory(seed=seed) for seed in range(3))
    store = Store.open(store_factory([done]))
    store.publish_failure(failed.key, new_attempt_id(), {"reason": "raised"})
    sweep(store, [done, failed, missing])
    runs = load(store.root).runs
    assert dict(zip(runs["seed"], runs["status"], strict=True)) == {
        0: "done",
        1: "failed",
        2: "missing",
    }


def test_what_cannot_be_read_is_a_problem_and_its_run_missing(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """Cut files, later schemas and records that do not fit their key are named, never counted."""
    cut, later, unfit, huge = (record_factory(seed=seed) for seed in range(4))
    store = Store.open(store_factory([record_factory(seed=9)]))
    for record, data in [
        (cut, encode(cut.plain())[:-9]),
        (later, encode(later.plain() | {"schema": 99})),
        (unfit, encode(unfit.plain() | {"spec": cut.spec})),
        (huge, encode(huge.plain() | {"search_forward": 10**30})),
    ]:
        store.record_path(record.key).write_bytes(data)
    sweep(store, [cut, later, unfit, huge])
    frame = load(store.root)
    reasons = {problem.path.stem: problem.reason for problem in frame.problems}
    assert reasons.keys() == {cut.key, later.key, unfit.key, huge.key}
    assert "not valid JSON" in reasons[cut.key]
    assert "schema 99" in reasons[later.key]
    assert "is not the key of its spec" in reasons[unfit.key]
    assert "search_forward" in reasons[huge.key]
    assert sorted(frame.runs["status"]) == ["done", *["missing"] * 4]
    assert "schema 99" in only(frame.runs, key=later.key)["reason"]


def test_a_broken_sweep_and_a_failure_of_nothing_known_are_problems(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """Neither hides the records, and each is one line."""
    store = Store.open(store_factory([record_factory()]))
    store.publish_failure("ab" * 20, new_attempt_id(), {"reason": "boom"})
    (store.root / "sweeps" / "broken.json").write_text("{")
    frame = load(store.root)
    assert list(frame.runs["status"]) == ["done"]
    assert [problem.path.name for problem in frame.problems] == [
        "ab" * 20 + ".failed",
        "broken.json",
    ]
    assert all("\n" not in problem.reason for problem in frame.problems)


def test_runs_that_came_out_different_are_flagged(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """The first record stays, and says in which fields a second attempt differed."""
    first, second = record_factory(accuracy=0.9), record_factory(accuracy=0.8)
    row = only(load(store_factory([first, second])).runs, key=first.key)
    assert (row["accuracy"], row["conflict"]) == (0.9, "accuracy")


def test_versions_of_one_data_set_are_kept_apart(record_factory: RecordFactory) -> None:
    """Where one name stands for two fingerprints, the split tells them apart."""
    records = [record_factory(seed=s, data_fingerprint=f"{s}" * 64) for s in (0, 1)]
    runs = tabulate(map(row_of, records))
    assert list(runs["split"]) == ["test, data 00000000", "test, data 11111111"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "m"),
        ({"b": "erk", "a": 1}, "m(a=1, b=erk)"),
        ({"a": "1"}, "m(a='1')"),
        ({"a": "1, b=2"}, "m(a='1, b=2')"),
        ({"a": True}, "m(a=True)"),
        ({"a": "True"}, "m(a='True')"),
        ({"a": None}, "m(a=None)"),
    ],
    ids=str,
)
def test_labels_tell_options_apart(options: dict[str, Any], shown: str) -> None:
    """Two methods that differ in an option's value or type have different labels."""
    assert label(Named(name="m", options=options)) == shown


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """In one line, as the user's error."""
    with pytest.raises(UserError, match=r"^.*is not a paibench store.*$"):
        load(tmp_path)


def test_no_rows_make_an_empty_frame() -> None:
    """With all its columns."""
    assert list(tabulate([]).columns) == list(COLUMNS)


# Several stores as one frame: each run once, the best that is known of
# it, conflicts said.


def store(root: Path, *records: Record, asked: Iterable[Record] = ()) -> Path:
    """A store with these records, and a sweep that asks for some."""
    made = Store.open(root)
    for record in records:
        made.publish_record(record.key, record.plain(), new_attempt_id(), VOLATILE)
    plain = {"name": "sweep", "runs": {record.key: record.spec for record in asked}}
    create_once(made.root / "sweeps" / f"{'0' * 40}.json", encode(plain))
    return made.root


def failed(root: Path, record: Record) -> Path:
    """A store in which this run failed."""
    made = Store.open(root)
    note = {"spec": record.spec, "reason": "out of memory"}
    made.publish_failure(record.key, new_attempt_id(), note)
    return made.root


def the_same(roots: Iterable[Path]) -> pd.DataFrame:
    """The frame of these stores, found equal in whatever order they are named."""
    first, *others = (load(*order) for order in permutations(roots))
    for other in others:
        pd.testing.assert_frame_equal(first.runs, other.runs)
        assert first.problems == other.problems
    return first.runs


def test_runs_of_all_stores_are_rows(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Those of one and of the other, in the order of their keys, no matter who has which."""
    records = [record_factory(seed=seed) for seed in range(6)]
    parts = [store(tmp_path / name, *records[n::3]) for n, name in enumerate("abc")]
    runs = the_same(parts)
    assert list(runs["key"]) == sorted(record.key for record in records)
    pd.testing.assert_frame_equal(runs, load(store(tmp_path / "all", *records)).runs)


def test_the_same_record_is_one_row(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Times, memory, machine and the version of the form are no difference."""
    there = record_factory(
        schema=2, search_seconds=9.0, peak_memory_mb=1.0, environment={"host": "elsewhere"}
    )
    here = record_factory(schema=1, search_seconds=1.0)
    runs = the_same([store(tmp_path / "b", there), store(tmp_path / "a", here)])
    assert list(runs["search_seconds"]) == [1.0]
    assert runs["conflict"].isna().all()


def test_records_that_differ_are_one_row_with_their_fields(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """The first store's in the order of paths stands; three stores tell of all differences."""
    first, second, third = (
        record_factory(accuracy=0.9),
        record_factory(accuracy=0.8),
        record_factory(accuracy=0.9, loss=1.0),
    )
    parts = [
        store(tmp_path / name, each)
        for name, each in zip("cab", [third, first, second], strict=True)
    ]
    runs = the_same(parts)
    assert list(runs["accuracy"]) == [0.9]
    assert list(runs["conflict"]) == ["accuracy, loss"]


def test_what_one_store_found_different_stays_said(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """A conflict within a store is one of the merged row too."""
    again = store(tmp_path / "b", record_factory(accuracy=0.9), record_factory(accuracy=0.8))
    runs = the_same([store(tmp_path / "a", record_factory(accuracy=0.9)), again])
    assert list(runs["conflict"]) == ["accuracy"]


@pytest.mark.parametrize("name", ["a", "z"], ids=["before", "after"])
def test_a_result_stands_before_what_has_none(
    tmp_path: Path, record_factory: RecordFactory, name: str
) -> None:
    """A run that failed, is missing or was skipped elsewhere is done; none of it is a conflict."""
    runs = [record_factory(seed=seed) for seed in range(3)]
    skipped = record_factory(seed=2, status="skipped", reason="too sparse", accuracy=None)
    parts = [
        store(tmp_path / name, *runs),
        failed(tmp_path / "m", runs[0]),
        store(tmp_path / "n", skipped, asked=[runs[1]]),
    ]
    found = the_same(parts)
    assert list(found["status"]) == ["done"] * 3
    assert found["conflict"].isna().all() and found["reason"].isna().all()


def test_a_failure_stands_before_a_missing_run(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """What was tried says more than what was asked for; both come after the records."""
    runs = [record_factory(seed=seed) for seed in range(3)]
    parts = [store(tmp_path / "a", runs[0], asked=runs), failed(tmp_path / "b", runs[1])]
    found = the_same(parts)
    assert list(found["status"]) == ["done", "failed", "missing"]
    assert list(found["seed"]) == [0, 1, 2]


def test_a_broken_record_is_a_problem_and_another_store_has_the_run(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """Its file is named, and the run is done all the same."""
    record = record_factory()
    broken = store(tmp_path / "a", record, asked=[record])
    Store.read(broken).record_path(record.key).unlink()
    Store.read(broken).record_path(record.key).write_text("{")
    parts = [broken, store(tmp_path / "b", record)]
    assert list(the_same(parts)["status"]) == ["done"]
    assert [problem.path.stem for problem in load(*parts).problems] == [record.key]


def test_a_store_that_is_named_twice_counts_once(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """By another spelling or by a link too."""
    root = store(tmp_path / "a", record_factory())
    Store.read(root).record_path("ab" * 20).write_text("{")
    (tmp_path / "link").symlink_to(root)
    found = load(root, root, tmp_path / "a" / ".." / "a", tmp_path / "link")
    assert len(found.runs) == len(found.problems) == 1


def test_each_has_to_be_a_store(tmp_path: Path, record_factory: RecordFactory) -> None:
    """One that is none is the user's error, not an empty one."""
    with pytest.raises(UserError, match="no store"):
        load(store(tmp_path / "a", record_factory()), tmp_path / "nowhere")


def test_every_stable_field_is_compared(record_factory: RecordFactory) -> None:
    """All that another run has to give again, but for what the key says and the form."""
    stable: dict[str, Any] = record_factory().stable()
    assert {name for _, name in COMPARED} == stable.keys() - {"key", "spec", "schema"}


# A store that two processes read gives the frame that one gives.


@pytest.fixture
def root(
    record_factory: Callable[..., Record], store_factory: Callable[[Iterable[Record]], Path]
) -> Path:
    """A store with runs in both halves: sound, repeated with another result, skipped, broken."""
    records = [record_factory(seed=seed) for seed in range(24)]
    skipped = record_factory(seed=30, status="skipped", reason="too sparse", accuracy=None)
    again = [record_factory(seed=seed, accuracy=0.5) for seed in range(12)]
    root = store_factory([*records, skipped, *again])
    for number, record in enumerate(sorted(records, key=lambda record: record.key)):
        if number % 8 == 0:
            path = Store.read(root).record_path(record.key)
            path.unlink()
            path.write_text("{")
    return root


def by(processes: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> Frame:
    """The frame of a store as so many processes read it."""
    monkeypatch.setattr(read, "_is_large", lambda store: processes == 2)
    return load(root)


def test_two_processes_read_what_one_reads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, their order, conflicts and problems are the same."""
    one, two = (by(number, root, monkeypatch) for number in (1, 2))
    pd.testing.assert_frame_equal(one.runs, two.runs)
    assert one.problems == two.problems
    halves = {problem.path.parent.name < "80" for problem in two.problems}
    assert halves == {True, False}
    assert two.runs["conflict"].notna().any()


def test_where_the_second_process_fails_the_first_reads_all(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a store is never taken for the whole."""
    one = by(1, root, monkeypatch)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pd.testing.assert_frame_equal(one.runs, by(2, root, monkeypatch).runs)


def test_a_program_that_is_not_there_is_no_reason_to_fail(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no second process can be started, one reads all."""
    one = by(1, root, monkeypatch)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pd.testing.assert_frame_equal(one.runs, by(2, root, monkeypatch).runs)


def test_small_stores_are_read_by_one_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one costs half a second to start."""
    store = Store.read(root)
    assert not read._is_large(store)
    monkeypatch.setattr(read, "_MANY", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    assert read._is_large(store)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert not read._is_large(store)


def test_the_collector_is_as_it_was(root: Path) -> None:
    """Also where there is no store."""
    load(root)
    assert gc.isenabled()
    with pytest.raises(ValueError):
        load(root / "runs")
    assert gc.isenabled()


# What is remembered from row to row changes no row.

GOOD: dict[str, Any] = {"dataset": "digits", "model": "m", "recipe": "lite", "method": "snip"}
METHODS: list[Any] = [
    "snip",
    {"name": "snip"},
    {"name": "snip", "options": {}},
    {"name": "snip", "a": 1},
    {"name": "snip", "a": 1.0},
    {"name": "snip", "a": True},
    {"name": "snip", "a": "1"},
    {"name": "snip", "a": None},
    {"name": "snip", "a": -0.0},
    {"name": "snip", "a": 0.0},
    {"name": "snip", "b": 2, "a": 1},
    {"name": "snip", "options": {"a": 1, "b": 2}},
]
REFUSED: list[Any] = [
    None,
    7,
    [],
    {},
    {**GOOD, "method": 7},
    {**GOOD, "method": None},
    {**GOOD, "method": ".."},
    {**GOOD, "method": {}},
    {**GOOD, "method": {"name": "snip", "a": []}},
    {**GOOD, "method": {"name": "snip", "a-b": 1}},
    {**GOOD, "method": {"name": "snip", "a": 10**30}},
    {**GOOD, "method": "x" * 2000},
    {**GOOD, "seed": -1},
    {**GOOD, "seed": 1.0},
    {**GOOD, "density": 0},
    {**GOOD, "density": "0.1"},
    {**GOOD, "control": "other"},
    {**GOOD, "more": 1},
    {"seed": 1},
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_spec_reads_as_it_validates(method: Any) -> None:
    """Equal in value, type, key and text, also when all like it were met before."""
    for other in METHODS:
        Spec.read({**GOOD, "method": other})
    plain = {**GOOD, "method": method, "density": 0.25, "seed": 3}
    read, validated = Spec.read(plain), Spec.model_validate(plain)
    assert read == validated
    assert repr(read) == repr(validated)
    assert read.key == validated.key


@pytest.mark.parametrize("plain", REFUSED, ids=lambda plain: repr(plain)[:60])
def test_what_does_not_validate_is_not_read(plain: Any) -> None:
    """With the same words."""
    with pytest.raises(ValueError) as expected:
        Spec.model_validate(plain)
    with pytest.raises(ValueError) as found:
        Spec.read(plain)
    assert str(found.value) == str(expected.value)


def test_nesting_without_end_is_refused() -> None:
    """As any other value that is not plain."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="takes one plain value"):
        Spec.read({**GOOD, "method": {"name": "snip", "a": deep}})


def test_the_rows_of_many_are_those_of_each(record_factory: Callable[..., Record]) -> None:
    """Labels that were made before are those of this name, with its options."""
    records = [record_factory(method=method, seed=seed) for method in METHODS for seed in (0, 1)]
    rows = Rows()
    for record in [*records, *records]:
        assert rows.of(*Record.with_spec(record.plain())) == row_of(record)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "1" + "0" * 400 + ".0"])
def test_a_number_without_end_is_refused_where_the_seal_fits(number: str) -> None:
    """By the bytes as they stand too: a seal says that nothing changed, not that it is sound."""

    def sealed(number: str) -> bytes:
        rest = f'{{"accuracy":{number}'
        return f'{rest},"seal":"{sha256(f"{rest}}}".encode()).hexdigest()}"}}'.encode()

    assert decode(sealed("0.5")) == {"accuracy": 0.5}
    with pytest.raises(Corrupt, match="not valid JSON"):
        decode(sealed(number))

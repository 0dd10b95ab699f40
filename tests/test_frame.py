"""A store as a frame: each run a row, what failed or is missing a row, what is broken a problem."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paibench.benchmark.commit import publish
from paibench.benchmark.record import Record
from paibench.benchmark.seal import seal
from paibench.benchmark.spec import Named
from paibench.benchmark.store import Store
from paibench.leaderboard.columns import COLUMNS
from paibench.leaderboard.frame import label, load, row_of, tabulate
from paibench.methods.registry import UserError

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]


def sweep(store: Store, records: Iterable[Record]) -> None:
    """Put a sweep of these runs into a store."""
    plain = {"name": "sweep", "runs": {record.key: record.spec for record in records}}
    publish(store.root / "sweeps" / f"{'0' * 40}.json", seal(plain))


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
    store.note_failure(lost.key, store.new_attempt(lost.key), note)
    row = only(load(root).runs, key=lost.key)
    assert (row["status"], row["reason"]) == ("failed", "out of memory")
    assert (row["split"], row["protocol"]) == ("test", 1)
    assert pd.isna(row["accuracy"])


def test_what_a_sweep_asks_for_and_nobody_did_is_missing(
    record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """Of three runs of a sweep, one done and one failed, the third is missing."""
    done, failed, missing = (record_factory(seed=seed) for seed in range(3))
    store = Store.open(store_factory([done]))
    store.note_failure(failed.key, store.new_attempt(failed.key), {"reason": "raised"})
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
        (cut, seal(cut.plain())[:-9]),
        (later, seal(later.plain() | {"schema": 99})),
        (unfit, seal(unfit.plain() | {"spec": cut.spec})),
        (huge, seal(huge.plain() | {"search_forward": 10**30})),
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
    store.note_failure("ab" * 20, store.new_attempt("ab" * 20), {"reason": "boom"})
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

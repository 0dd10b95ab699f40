"""A leaderboard is built from a store alone, says what it leaves out, and comes out the same."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import pytest

from paibench import __version__
from paibench.benchmark.record import Record
from paibench.benchmark.store.checksummed_json import encode
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.records import SCHEMA
from paibench.benchmark.store.store import Store
from paibench.leaderboard.build import build
from paibench.methods.core.registry import UserError

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]


def test_files_of_a_small_leaderboard(
    record_factory: RecordFactory, store_factory: StoreFactory, tmp_path: Path
) -> None:
    """A page, tables, figures in three forms and a site; all say what went wrong."""
    store = Store.open(store_factory([record_factory(seed=seed) for seed in range(2)]))
    lost, broken = record_factory(seed=7), record_factory(seed=8)
    note = {"spec": lost.spec, "reason": "out of | memory"}
    store.publish_failure(lost.key, new_attempt_id(), note)
    store.record_path(broken.key).write_text("{")
    built = build([store.root], tmp_path / "out" / "board")
    board = tmp_path / "out" / "board"
    files = {path.relative_to(board).as_posix() for path in built.paths}
    forms = ("png", "svg", "pdf")
    (name,) = (path.stem for path in (board / "track").iterdir())
    kinds = ("accuracy", "cost", "profiles", "untrained")
    assert {f"figures/{kind}-{name}.{form}" for kind in kinds for form in forms} <= files
    assert {"leaderboard.csv", "leaderboard.md", "leaderboard.tex", "methods.bib"} <= files
    assert {"index.html", f"track/{name}.html", "data/runs.parquet"} <= files
    written = {path.relative_to(board).as_posix() for path in board.rglob("*") if path.is_file()}
    assert written == files
    assert built.counts == {
        "done": 2,
        "diverged": 0,
        "failed": 1,
        "skipped": 0,
        "missing": 0,
        "unreadable": 1,
    }
    assert [line.partition(":")[0] for line in built.left_out] == ["failed", "unreadable"]
    page = (tmp_path / "out" / "board" / "leaderboard.md").read_text()
    assert "2 done, 1 failed, 1 unreadable." in page
    assert f"](figures/accuracy-{name}.png)" in page
    assert "failed 1/3" in page
    assert r"out of \| memory" in page


def test_the_same_store_gives_the_same_bytes(
    record_factory: RecordFactory, store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Built twice into the same folder, every file is as it was."""
    root = store_factory([record_factory(seed=seed) for seed in range(2)])
    first = {path: path.read_bytes() for path in build([root], tmp_path / "out").paths}
    assert {path: path.read_bytes() for path in build([root], tmp_path / "out").paths} == first


def test_tracks_have_files_of_their_own(
    record_factory: RecordFactory, store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Names that read alike when joined do not overwrite each other's figures."""
    pairs = [{"dataset": "a-b", "model": "c"}, {"dataset": "a", "model": "b-c"}]
    records = [record_factory(**pair, accuracy_untrained=None) for pair in pairs]
    built = build([store_factory(records)], tmp_path / "out")
    assert sum(path.name.startswith("accuracy") for path in built.paths) == 6
    assert sum("no run gave an accuracy before" in line for line in built.left_out) == 2


def test_later_schemas_are_counted_not_listed(
    record_factory: RecordFactory, store_factory: StoreFactory, tmp_path: Path
) -> None:
    """One line for all records of a schema that this program is too old for."""
    root = store_factory([record_factory()])
    for seed in (1, 2, 3):
        record = record_factory(seed=seed)
        path = Store.read(root).record_path(record.key)
        path.write_bytes(encode(record.plain() | {"schema": SCHEMA + 1}))
    built = build([root], tmp_path / "out")
    expected = (
        f"unreadable: 3 records of schema {SCHEMA + 1}, later than this program; update paibench"
    )
    assert built.left_out == (expected,)


def test_every_page_says_what_it_is_made_of(
    record_factory: RecordFactory, store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Version, number and days of the records, commits, and the digest of the cells."""
    commits, days = ("a" * 40, "b" * 40), ("2026-01-02", "2026-03-04")
    records = [
        record_factory(seed=seed, environment={"commit": commit, "finished": f"{day}T10:00:00Z"})
        for seed, (commit, day) in enumerate(zip(commits, days, strict=True))
    ]
    built = build([store_factory(records)], tmp_path)
    digest = sha256((tmp_path / "data" / "cells.csv").read_bytes()).hexdigest()[:16]
    line = (
        f"paibench {__version__}; 2 records of 2026-01-02 to 2026-03-04; made at aaaaaaaa, "
        f"bbbbbbbb; sha256 of data/cells.csv {digest}"
    )
    assert (tmp_path / "leaderboard.tex").read_text().startswith(f"% {line}\n")
    pages = [path for path in built.paths if path.suffix == ".html"]
    assert len(pages) > 3
    assert [page for page in pages if f"<p>Data: {line}.</p>" not in page.read_text()] == []
    (track,) = (tmp_path / "track").iterdir()
    assert "Cite this table" in track.read_text()


def test_all_stores_of_a_folder(
    store_factory: StoreFactory, record_factory: RecordFactory, tmp_path: Path
) -> None:
    """A folder of stores gives the same board as its stores by name; pages beside them do not."""
    for name, method in (("one", "snip"), ("two", "random")):
        shutil.copytree(store_factory([record_factory(method=method)]), tmp_path / "all" / name)
    (tmp_path / "all" / "README.md").write_text("what the stores are")
    folder = build([tmp_path / "all"], tmp_path / "a")
    stores = build([tmp_path / "all" / "two", tmp_path / "all" / "one"], tmp_path / "b")
    assert folder.counts["done"] == 2
    assert folder.tables == stores.tables


def test_a_store_without_records_is_refused_in_one_line(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """And nothing is written."""
    with pytest.raises(UserError, match=r"^'.*' has no records to show \(nothing\); .*$"):
        build([store_factory([])], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_refused_in_one_line(
    record_factory: RecordFactory, store_factory: StoreFactory, tmp_path: Path
) -> None:
    """A file stands where the folder should."""
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="^[^\n]*cannot be written to[^\n]*$"):
        build([store_factory([record_factory()])], tmp_path / "out")


def test_the_room_does_not_import_torch() -> None:
    """A laptop without it builds the leaderboard."""
    code = "import paibench.leaderboard.build, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"

"""Which folders are stores, which may become one, and the errors for all others."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.layout import LAYOUT, SHARDS, all_stores, stores_in
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError


def tree(root: Path) -> dict[str, int]:
    """Return every path below a folder with the time of its last change."""
    return {str(path): path.lstat().st_mtime_ns for path in [root, *root.rglob("*")]}


def test_a_new_store_has_its_version_and_its_folders(tmp_path: Path) -> None:
    """Opening makes the folder, its parents, `bench.json` and all shards, and leaves no probe."""
    store = Store.open(tmp_path / "new" / "store")
    assert store.links
    assert decode((store.root / "bench.json").read_bytes()) == {"layout": LAYOUT}
    assert sorted(os.listdir(store.root / "runs")) == SHARDS
    assert sorted(os.listdir(store.root)) == [
        "bench.json", "quarantine", "runs", "stages", "submissions", "sweeps"
    ]  # fmt: skip


def test_a_store_is_opened_again_as_it_is(tmp_path: Path) -> None:
    """A second opening, with or without `create`, gives the same store."""
    first = Store.open(tmp_path)
    made = (tmp_path / "bench.json").stat().st_ino
    assert Store.open(str(tmp_path)) == Store.open(tmp_path, create=False) == first
    assert (tmp_path / "bench.json").stat().st_ino == made


def test_opening_creates_missing_folders(tmp_path: Path) -> None:
    """Version control drops empty folders: a writer creates them, a reader does not need them."""
    Store.open(tmp_path)
    for shard in SHARDS:
        (tmp_path / "runs" / shard).rmdir()
    assert list(Store.read(tmp_path).records()) == []
    Store.open(tmp_path)
    assert sorted(os.listdir(tmp_path / "runs")) == SHARDS


def test_a_crash_before_the_version_was_written_does_no_harm(tmp_path: Path) -> None:
    """A folder with hidden temporary files can become a store."""
    (tmp_path / ".tmp-0123").touch()
    Store.open(tmp_path)


def test_reading_writes_nothing(tmp_path: Path) -> None:
    """A reader changes no file or folder, and no time of one."""
    Store.open(tmp_path)
    before = tree(tmp_path)
    store = Store.read(tmp_path)
    assert list(store.records()) == []
    assert store.listing() == (frozenset(), frozenset())
    assert store.read_stage("scope", "dense") is None
    assert tree(tmp_path) == before


def _nothing(path: Path) -> Path:
    return path


def _empty(path: Path) -> Path:
    path.mkdir()
    return path


def _file(path: Path) -> Path:
    path.write_text("data")
    return path


def _below_a_file(path: Path) -> Path:
    path.write_text("data")
    return path / "store"


def _foreign(path: Path) -> Path:
    (path / "thesis").mkdir(parents=True)
    return path


def _later(path: Path) -> Path:
    path.mkdir()
    (path / "bench.json").write_bytes(encode({"layout": LAYOUT + 1}))
    return path


def _damaged(path: Path) -> Path:
    Store.open(path)
    (path / "bench.json").unlink()
    (path / "bench.json").write_text('{"layout": 1')
    return path


Make = Callable[[Path], Path]

UNFIT: dict[str, tuple[Make, str]] = {
    "file": (_file, "above it is a file"),
    "below a file": (_below_a_file, "above it is a file"),
    "foreign files": (_foreign, "not a paibench store"),
    "later layout": (_later, "update paibench"),
    "damaged": (_damaged, "restore it"),
    "nul": (lambda path: path / "a\0b", "cannot be the name of a folder"),
    "too long": (lambda path: path.with_name("a" * 300), "File name too long"),
    "newline": (lambda path: _foreign(path / "a\nb"), "not a paibench store"),
    "not writable for anybody": (lambda path: Path("/proc/self/store"), "no store at"),
}
ABSENT: dict[str, tuple[Make, str]] = {
    "absent": (_nothing, "there is no store at .*check the path"),
    "empty folder": (_empty, "not a paibench store"),
}


@pytest.mark.parametrize(("make", "reason"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_a_store_is_refused_by_writers(
    tmp_path: Path, make: Make, reason: str
) -> None:
    """One line describes what is wrong with the folder, and nothing in it changes."""
    root = make(tmp_path / "x")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=reason) as caught:
        Store.open(root)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("make", "reason"), (UNFIT | ABSENT).values(), ids=UNFIT | ABSENT)
@pytest.mark.parametrize(
    "opening", [Store.read, lambda root: Store.open(root, create=False)], ids=["read", "open"]
)
def test_only_a_writer_with_create_makes_a_store(
    tmp_path: Path, make: Make, reason: str, opening: Callable[[Path], Store]
) -> None:
    """A reader, and a writer without `create`, refuse the same folders, and missing ones."""
    root = make(tmp_path / "x")
    before = tree(tmp_path)
    with pytest.raises(UserError) as caught:
        opening(root)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("call", ["open", "link"])
def test_a_read_only_folder_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Opening writes, links and deletes a file, so that no run trains in vain."""
    Store.open(tmp_path)
    real = os.open

    def refuse(*args: Any, **kwargs: Any) -> int:
        if call == "link" or args[1] & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(UserError, match="Read-only file system .*name another folder") as caught:
        Store.open(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    Store.read(tmp_path)


def test_a_store_without_hard_links_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store on a file system without hard links has `links` False."""

    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert not Store.open(tmp_path).links


def test_stores_of_a_folder(tmp_path: Path) -> None:
    """The folder itself, or those that lie in it, by name, and never through a link."""
    for name in ("b", "a", "elsewhere/c"):
        Store.open(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "c")
    (tmp_path / "README.md").touch()
    assert stores_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert stores_in(tmp_path / "a") == [tmp_path / "a"]
    assert stores_in(tmp_path / "a" / "runs") == []
    lost = tmp_path / "lost"
    assert all_stores([tmp_path, lost]) == [tmp_path / "a", tmp_path / "b", lost]

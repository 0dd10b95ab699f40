"""A file is complete or absent, and created only once, whatever fails."""

import ast
import errno
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from paibench.benchmark.store import atomic
from paibench.benchmark.store.atomic import (
    StoreError,
    create_once,
    read,
    replace_atomic,
    server_time,
    supports_links,
)
from paibench.benchmark.store.checksummed_json import Corrupt

DATA = b"x" * 3107


def in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked child; its exit status, negative for a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child takes no locks of others
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_published_file_is_whole_read_only_and_alone(tmp_path: Path) -> None:
    """The file has the first writer's bytes and mode 0444, and no other file is left."""
    old = os.umask(0o022)
    try:
        assert create_once(tmp_path / "a.json", DATA) == "new"
    finally:
        os.umask(old)
    assert read(tmp_path / "a.json") == DATA
    assert os.stat(tmp_path / "a.json").st_mode & 0o7777 == 0o444
    assert names(tmp_path) == ["a.json"]


def test_the_first_one_wins(tmp_path: Path) -> None:
    """A file is never replaced by other bytes."""
    create_once(tmp_path / "a", b"first")
    assert create_once(tmp_path / "a", b"second") == "already"
    assert read(tmp_path / "a") == b"first"
    assert names(tmp_path) == ["a"]


def test_replace_has_one_owner_and_leaves_the_last(tmp_path: Path) -> None:
    """After a replacement the file has the new bytes, and no other file is left."""
    replace_atomic(tmp_path / "a", b"first")
    replace_atomic(tmp_path / "a", b"second")
    assert read(tmp_path / "a") == b"second"
    assert names(tmp_path) == ["a"]


def _publish_and_die(path: Path, line: int) -> Callable[[], None]:
    """Create a file, and be killed just before the n-th line of atomic.py."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != atomic.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def work() -> None:
        sys.settrace(trace)
        create_once(path, DATA)

    return work


def test_a_kill_at_any_line_leaves_nothing_or_all(tmp_path: Path) -> None:
    """At every line of a commit a SIGKILL leaves the file absent or valid; the retry succeeds."""
    found, line = [], 0
    while True:
        folder = tmp_path / str(line := line + 1)
        folder.mkdir()
        status = in_child(_publish_and_die(folder / "a", line))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        found.append((folder / "a").exists())
        assert not found[-1] or read(folder / "a") == DATA
        assert create_once(folder / "a", DATA) == ("already" if found[-1] else "new")
        assert read(folder / "a") == DATA
    assert found == sorted(found)  # absent up to the link, valid from there on
    assert found.count(False) > 15 and found.count(True) > 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_failing_disk_leaves_the_folder_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Disk full, quota and I/O errors are one line with the folder and its free bytes."""
    monkeypatch.setattr(os, "fsync", _raising(number))
    with pytest.raises(StoreError) as caught:
        create_once(tmp_path / "a", DATA)
    assert caught.value.errno == number
    assert str(tmp_path) in str(caught.value) and "bytes free" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_file_over_the_limit_of_the_process_leaves_the_folder_clean(tmp_path: Path) -> None:
    """A real write error (EFBIG) half-way through the bytes publishes nothing."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(StoreError) as caught:
            create_once(tmp_path / "a", DATA)
        assert caught.value.errno == errno.EFBIG

    assert in_child(work) == 0
    assert names(tmp_path) == []


def test_a_folder_that_is_not_synced_is_an_error_and_the_retry_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success is never reported without both syncs; the file may be there all the same."""
    real, calls = os.fsync, []

    def second_fails(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(StoreError):
        create_once(tmp_path / "a", DATA)
    assert create_once(tmp_path / "a", DATA) == "already"
    assert len(calls) == 4
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO], ids=["ESTALE", "EIO"])
@pytest.mark.parametrize(("failures", "published"), [(1, True), (2, True), (3, False)])
def test_a_link_that_fails_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, failures: int, published: bool
) -> None:
    """A transient error of `link` is reported after three tries."""
    monkeypatch.setattr(os, "link", _raising(number, times=failures, then=os.link))
    if published:
        assert create_once(tmp_path / "a", DATA) == "new"
    else:
        with pytest.raises(StoreError):
            create_once(tmp_path / "a", DATA)
    assert names(tmp_path) == ["a"] * published


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EEXIST])
def test_a_reply_lost_after_the_link_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If the link was made and an error came back, the writer knows that it was the first."""
    real = os.link

    def link_then_raise(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link_then_raise)
    assert create_once(tmp_path / "a", DATA) == "new"
    assert read(tmp_path / "a") == DATA
    assert names(tmp_path) == ["a"]


def test_faulty_storage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that were accepted and lost are noticed by reading them back; no file is created."""
    monkeypatch.setattr(os, "fsync", lambda fd: os.ftruncate(fd, 3007))
    with pytest.raises(StoreError, match="wrote 3107 bytes, 3007 came back"):
        create_once(tmp_path / "a", DATA)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_a_lock_and_a_rename_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On a file system without links the first writer still wins, and the lock is gone."""
    assert supports_links(tmp_path)
    monkeypatch.setattr(os, "link", _raising(number))
    assert not supports_links(tmp_path)
    assert create_once(tmp_path / "a", b"first") == "new"
    assert create_once(tmp_path / "a", b"second") == "already"
    assert read(tmp_path / "a") == b"first"
    assert names(tmp_path) == ["a"]


def test_a_lock_is_respected_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer waits for another one's lock, and breaks it after a minute."""
    monkeypatch.setattr(os, "link", _raising(errno.EPERM))
    lock = tmp_path / ".tmp-a.lock"
    lock.touch()
    with pytest.raises(StoreError, match="another writer"):
        create_once(tmp_path / "a", DATA)
    os.utime(lock, (lock.stat().st_mtime - 61,) * 2)
    assert create_once(tmp_path / "a", DATA) == "new"
    assert names(tmp_path) == ["a"]


def _link_to(path: Path) -> None:
    path.with_name("target").write_bytes(DATA)
    path.symlink_to("target")


ODD: dict[str, Callable[[Path], object]] = {
    "symbolic link": _link_to,
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "larger than the limit": lambda path: path.write_bytes(b"x" * (2**20 + 1)),
    "two gigabytes": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**31),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_only_plain_files_of_bounded_size_are_read(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Anything else under the name is refused at once; a FIFO does not hang the reader."""
    make(tmp_path / "a")
    with pytest.raises(Corrupt):
        read(tmp_path / "a")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A reader gets FileNotFoundError, and a writer without a folder gets StoreError."""
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "a")
    with pytest.raises(StoreError, match="No such file or directory .free bytes unknown."):
        create_once(tmp_path / "b" / "a", DATA)


def test_the_time_is_the_file_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a folder does not depend on our own clock."""
    (tmp_path / "before").touch()
    monkeypatch.setattr("time.time", lambda: 0.0)
    now = server_time(tmp_path)
    (tmp_path / "after").touch()
    times = [(tmp_path / name).stat().st_mtime for name in ("before", "after")]
    assert times[0] <= now <= times[1]
    assert names(tmp_path) == ["after", "before"]


# A rename replaces what is there without a word, so that every one has to be accounted for here:
# onto a name of its own (aside), or onto a file with one owner.
RENAMES = {
    ("atomic.py", "replace_atomic"),
    ("atomic.py", "_rename_under_lock"),
    ("lease.py", "_remove"),
    ("records.py", "quarantine"),
}


def _is_rename(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    path_replace = len(node.args) == 1 and not node.keywords  # a str takes two, a date keywords
    return {
        "rename": True,
        "renames": True,
        "move": of == "shutil",
        "replace": of == "os" or path_replace,
    }.get(node.func.attr, False)


def test_no_locks_no_databases_and_no_other_renames() -> None:
    """The store's folder sees no flock, fcntl or sqlite, and renames only where they are safe."""
    renames = set()
    for path in Path(atomic.__file__).parents[1].rglob("*.py"):
        if path.parent.name == "sandbox":
            continue  # it seals memory, and holds no store
        text = path.read_text()
        assert not re.search(r"\b(fcntl|flock|lockf|sqlite3?|dbm|shelve)\b", text), path.name
        if not re.search(r"\bbenchmark\.store\.(atomic|checksummed_json|records|store)\b", text):
            continue  # it knows no store: data sets have rules of their own
        for part in ast.parse(text).body:
            if any(map(_is_rename, ast.walk(part))):
                renames.add((path.name, getattr(part, "name", "")))
    assert renames == RENAMES


def test_existence_is_never_tested_by_name() -> None:
    """A network file system may remember for a minute that a file did not exist."""
    for name in ("atomic", "lease", "records", "layout", "store"):
        text = Path(atomic.__file__).with_name(f"{name}.py").read_text()
        assert not re.search(r"\b(exists|lexists|is_file|isfile|access)\(", text), name


def _raising(
    number: int, times: int = sys.maxsize, then: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """A system call that fails `times` times with this error, then does what it should."""
    left = times

    def call(*args: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise OSError(number, os.strerror(number))
        assert then is not None
        return then(*args)

    return call

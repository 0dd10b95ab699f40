"""Checkpoints: the newest whole one counts, whatever happened to the other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from paibench.benchmark.execution.checkpoint import Checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def saved(folder: Path, *contents: bytes) -> None:
    checkpoints = Checkpoints(folder)
    for content in contents:
        checkpoints.save(content)


def newest(folder: Path) -> Path:
    """The file that was written last: its number stands behind its digest."""
    return max(folder.glob("?.pt"), key=lambda path: path.read_bytes()[32:40])


def test_nothing_at_first(folder: Path) -> None:
    """Without a folder there is no checkpoint, and clearing it does no harm."""
    assert Checkpoints(folder).load() is None
    Checkpoints(folder).clear()


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_the_last_one_counts(folder: Path, count: int) -> None:
    """However many were saved, the last is found, and there are at most two files."""
    saved(folder, *(b"state %d" % number for number in range(count)))
    assert Checkpoints(folder).load() == b"state %d" % (count - 1)
    assert len(list(folder.iterdir())) == min(count, 2)


@pytest.mark.parametrize("loaded", [True, False], ids=["after loading", "without loading"])
def test_another_process_goes_on(folder: Path, loaded: bool) -> None:
    """Who comes after a kill replaces the older file, never the newer one."""
    saved(folder, b"one", b"two")
    after = Checkpoints(folder)
    if loaded:
        after.load()
    keeper = newest(folder)
    after.save(b"three")
    assert newest(folder) != keeper
    assert Checkpoints(folder).load() == b"three"
    newest(folder).write_bytes(b"")
    assert Checkpoints(folder).load() == b"two"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="last byte missing"),
        pytest.param(lambda data: data[:20], id="torn in its digest"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="one bit flipped"),
        pytest.param(lambda data: data[:33] + b"\xff" + data[34:], id="number forged"),
    ],
)
def test_broken_ones_are_passed_over(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    """Of a broken one the other takes the place; with both broken there is none."""
    saved(folder, b"one", b"two")
    last = newest(folder)
    last.write_bytes(damage(last.read_bytes()))
    assert Checkpoints(folder).load() == b"one"
    (first,) = set(folder.iterdir()) - {last}
    first.write_bytes(damage(first.read_bytes()))
    assert Checkpoints(folder).load() is None
    saved(folder, b"three")
    assert Checkpoints(folder).load() == b"three"


def test_cleared(folder: Path) -> None:
    """Clearing removes the folder, with what a killed writer left in it."""
    saved(folder, b"one")
    (folder / ".tmp-left-over").touch()
    Checkpoints(folder).clear()
    assert not folder.exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_newest_file_is_removed_last(
    folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads while the folder is cleared finds the newest data or nothing."""
    saved(folder, *(b"%d" % number for number in range(count)))
    left: list[bytes | None] = []
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: left.append(Checkpoints(folder).load()))
    Checkpoints(folder).clear()
    assert left == [b"%d" % (count - 1)]
    assert len(list(folder.iterdir())) == 1

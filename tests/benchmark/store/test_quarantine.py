"""Mending never costs a sound file."""

import os
from pathlib import Path

import pytest

from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.benchmark.store.quarantine import move_broken


def judge(path: Path) -> None:
    if read(path) != b"sound":
        raise Corrupt("it is broken")


def mend_between_look_and_move(
    monkeypatch: pytest.MonkeyPatch, path: Path, again: bool = False
) -> None:
    """Another owner mends the file just before we move it, and perhaps once more just after."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        path.write_bytes(b"sound")
        real(source, target)
        if again:
            path.write_bytes(b"sound")

    monkeypatch.setattr(os, "rename", rename)


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    (tmp_path / "quarantine").mkdir()
    return tmp_path / "quarantine"


def test_a_sound_file_stays(tmp_path: Path, quarantine: Path) -> None:
    """What is not broken is not moved."""
    (tmp_path / "a").write_bytes(b"sound")
    assert not move_broken(tmp_path / "a", judge, quarantine)
    assert sorted(os.listdir(tmp_path)) == ["a", "quarantine"]


def test_a_broken_file_is_kept_in_quarantine(tmp_path: Path, quarantine: Path) -> None:
    """Nothing is deleted, and the name is free."""
    (tmp_path / "a").write_bytes(b"x")
    assert move_broken(tmp_path / "a", judge, quarantine)
    assert [path.read_bytes() for path in quarantine.iterdir()] == [b"x"]


def test_a_name_that_became_free_is_free(tmp_path: Path, quarantine: Path) -> None:
    """A file that another owner moved away in the meantime needs no mending."""
    assert move_broken(tmp_path / "a", judge, quarantine)


def test_a_file_mended_by_another_is_put_back(
    tmp_path: Path, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound file that was moved by mistake gets its name again."""
    (tmp_path / "a").write_bytes(b"x")
    mend_between_look_and_move(monkeypatch, tmp_path / "a")
    assert not move_broken(tmp_path / "a", judge, quarantine)
    assert read(tmp_path / "a") == b"sound"
    assert os.listdir(quarantine) == []


def test_two_sound_files_are_both_kept(
    tmp_path: Path, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the name was taken once more meanwhile, the moved one stays in quarantine."""
    (tmp_path / "a").write_bytes(b"x")
    mend_between_look_and_move(monkeypatch, tmp_path / "a", again=True)
    assert not move_broken(tmp_path / "a", judge, quarantine)
    assert read(tmp_path / "a") == b"sound"
    assert [path.read_bytes() for path in quarantine.iterdir()] == [b"sound"]

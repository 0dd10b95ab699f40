"""A file of a store fits its name, or it is reported as a problem."""

import os
from pathlib import Path

import pytest

from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt, encode
from paibench.benchmark.store.records import (
    Problem,
    StoredRecord,
    check_hash,
    hashed_name,
    quarantine_if_corrupt,
    read_entry,
)

KEY = "ab" * 20
ABC = "ba7816bf8f01cfea"  # the sha256 of "abc" starts so


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("mask.safetensors", f"mask-{ABC}.safetensors"),
        ("a-b.tar.gz", f"a-b-{ABC}.tar.gz"),
        ("log", f"log-{ABC}"),
    ],
)
def test_a_hashed_name_fits_its_bytes_alone(name: str, hashed: str) -> None:
    """The digest precedes the first dot, and any other bytes are Corrupt."""
    assert hashed_name(name, b"abc") == hashed
    check_hash(hashed, b"abc")
    with pytest.raises(Corrupt):
        check_hash(hashed, b"abd")


@pytest.mark.parametrize("name", ["mask.safetensors", "mask-.safetensors", f"{ABC}", f"x{ABC}.a"])
def test_a_name_without_a_digest_is_refused(name: str) -> None:
    """A file that `publish_file` did not create is not trusted."""
    with pytest.raises(Corrupt, match="do not fit its name"):
        check_hash(name, b"abc")


def test_a_record_is_read_from_the_path_of_its_key(tmp_path: Path) -> None:
    """The shard's name, the file's name and the key inside have to agree."""
    record = {"schema": 1, "key": KEY}
    for shard in ("ab", "cd"):
        (tmp_path / shard).mkdir()
        (tmp_path / shard / f"{KEY}.json").write_bytes(encode(record))
    path = tmp_path / "ab" / f"{KEY}.json"
    assert read_entry(path) == StoredRecord(path, record)
    assert isinstance(read_entry(tmp_path / "cd" / f"{KEY}.json"), Problem)


def test_a_missing_record_is_not_a_problem(tmp_path: Path) -> None:
    """A missing file raises FileNotFoundError, which readers ignore."""
    (tmp_path / "ab").mkdir()
    with pytest.raises(FileNotFoundError):
        read_entry(tmp_path / "ab" / f"{KEY}.json")


def test_a_file_without_permission_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not be read is reported with the reason of the system."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("paibench.benchmark.store.records.read", refuse)
    path = tmp_path / "ab" / f"{KEY}.json"
    assert read_entry(path) == Problem(path, "cannot be read: Permission denied")


# -- quarantine: replacing a damaged file never loses a sound one ---------------------------------


def judge(path: Path) -> None:
    if read(path) != b"sound":
        raise Corrupt("it is broken")


def replace_between_check_and_move(
    monkeypatch: pytest.MonkeyPatch, path: Path, again: bool = False
) -> None:
    """Let another owner replace the file just before we move it, and again just after if asked."""
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
    """A file that is not damaged is not moved."""
    (tmp_path / "a").write_bytes(b"sound")
    assert not quarantine_if_corrupt(tmp_path / "a", judge, quarantine)
    assert sorted(os.listdir(tmp_path)) == ["a", "quarantine"]


def test_a_damaged_file_is_moved_to_quarantine(tmp_path: Path, quarantine: Path) -> None:
    """Nothing is deleted, and the name is free."""
    (tmp_path / "a").write_bytes(b"x")
    assert quarantine_if_corrupt(tmp_path / "a", judge, quarantine)
    assert [path.read_bytes() for path in quarantine.iterdir()] == [b"x"]


def test_a_name_that_became_free_is_free(tmp_path: Path, quarantine: Path) -> None:
    """If another owner moved the file meanwhile, its name is free."""
    assert quarantine_if_corrupt(tmp_path / "a", judge, quarantine)


def test_a_file_replaced_by_another_is_put_back(
    tmp_path: Path, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound file that was moved by mistake gets its name again."""
    (tmp_path / "a").write_bytes(b"x")
    replace_between_check_and_move(monkeypatch, tmp_path / "a")
    assert not quarantine_if_corrupt(tmp_path / "a", judge, quarantine)
    assert read(tmp_path / "a") == b"sound"
    assert os.listdir(quarantine) == []


def test_two_sound_files_are_both_kept(
    tmp_path: Path, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the name was taken again meanwhile, the moved file stays in quarantine."""
    (tmp_path / "a").write_bytes(b"x")
    replace_between_check_and_move(monkeypatch, tmp_path / "a", again=True)
    assert not quarantine_if_corrupt(tmp_path / "a", judge, quarantine)
    assert read(tmp_path / "a") == b"sound"
    assert [path.read_bytes() for path in quarantine.iterdir()] == [b"sound"]

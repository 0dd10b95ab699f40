"""What stands under a name in a store fits that name, or is a problem."""

from pathlib import Path

import pytest

from paibench.benchmark.store.checksummed_json import Corrupt, encode
from paibench.benchmark.store.records import Problem, StoredRecord, check_hash, entry, hashed_name

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
    """The digest stands before the first dot, and any other bytes are corrupt."""
    assert hashed_name(name, b"abc") == hashed
    check_hash(hashed, b"abc")
    with pytest.raises(Corrupt):
        check_hash(hashed, b"abd")


@pytest.mark.parametrize("name", ["mask.safetensors", "mask-.safetensors", f"{ABC}", f"x{ABC}.a"])
def test_a_name_without_a_digest_fits_no_bytes(name: str) -> None:
    """A file that was put there by other means is not trusted."""
    with pytest.raises(Corrupt, match="do not fit its name"):
        check_hash(name, b"abc")


def test_a_record_is_read_where_its_key_says(tmp_path: Path) -> None:
    """The shard's name, the file's name and the key inside have to agree."""
    record = {"schema": 1, "key": KEY}
    for shard in ("ab", "cd"):
        (tmp_path / shard).mkdir()
        (tmp_path / shard / f"{KEY}.json").write_bytes(encode(record))
    path = tmp_path / "ab" / f"{KEY}.json"
    assert entry(path) == StoredRecord(path, record)
    assert isinstance(entry(tmp_path / "cd" / f"{KEY}.json"), Problem)


def test_a_record_that_vanished_is_no_problem(tmp_path: Path) -> None:
    """Absence is said by FileNotFoundError, for the reader to pass over."""
    (tmp_path / "ab").mkdir()
    with pytest.raises(FileNotFoundError):
        entry(tmp_path / "ab" / f"{KEY}.json")


def test_what_the_system_will_not_open_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without the right to read it is named with the system's reason."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("paibench.benchmark.store.records.read", refuse)
    path = tmp_path / "ab" / f"{KEY}.json"
    assert entry(path) == Problem(path, "cannot be read: Permission denied")

"""Files are found by their exact names, and those that are not there are named."""

from pathlib import Path

import pytest

from paibench.benchmark.data.files import locate, printable, unreadable
from paibench.methods.core.registry import UserError


def test_a_path_is_found_part_by_part(tmp_path: Path) -> None:
    """What is there by exactly these names is given back as a path."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert locate("toy", tmp_path, "a/b", "fix it") == tmp_path / "a" / "b"
    assert locate("toy", tmp_path, "", "fix it") == tmp_path


@pytest.mark.parametrize(
    "root, parts, says",
    [
        (None, "a", "toy: no data folder given; set PAIBENCH_DATA or --data"),
        ("nowhere", "a", "toy: the data folder {}/nowhere does not exist; fix it"),
        ("", "c", "toy: {}/c is missing; fix it"),
        ("", "Raw/b", "toy: {}/Raw/b is missing; rename B beside it to b"),
        ("", "raw", "toy: {}/raw is missing; rename Raw beside it to raw"),
        ("", "file/b", "toy: {}/file cannot be read: Not a directory"),
    ],
    ids=["no root", "no folder", "missing", "case of a file", "case of a folder", "not a folder"],
)
def test_what_is_not_there_is_named_with_the_mend(
    tmp_path: Path, root: str | None, parts: str, says: str
) -> None:
    """A missing part is named in full, and names that differ in case alone are pointed out."""
    (tmp_path / "Raw" / "B").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        locate("toy", None if root is None else tmp_path / root, parts, "fix it")
    assert str(caught.value) == says.format(tmp_path)


def test_a_path_is_shown_in_one_line() -> None:
    """Line breaks, escapes and undecodable bytes are written out, letters stay as they are."""
    assert printable("/é\n\x1b[31m\udcff") == "/é\\n\\x1b[31m\\udcff"


def test_an_unreadable_file_is_named_with_the_reason() -> None:
    """The system's own word for the trouble is part of the line."""
    error = PermissionError(13, "Permission denied")
    says = "toy: /x cannot be read: Permission denied"
    assert str(unreadable("toy", Path("/x"), error)) == says

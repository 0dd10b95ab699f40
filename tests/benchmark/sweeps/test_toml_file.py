"""A TOML file of a user: read whole, or refused in one line that names it."""

from pathlib import Path

import pytest

from paibench.benchmark.sweeps.toml_file import MAX_BYTES, read
from paibench.methods.core.registry import UserError


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (b"", {}),
        (b" \n# nothing\n", {}),
        (b"\xef\xbb\xbfa = 1\n", {"a": 1}),
        (b"a = 1\n" + b"#" * (MAX_BYTES - 6), {"a": 1}),
    ],
    ids=["empty", "blank", "byte order mark", "as large as can be"],
)
def test_a_file_is_its_tables(tmp_path: Path, data: bytes, plain: dict[str, int]) -> None:
    """The tables are read, with or without a byte order mark."""
    path = tmp_path / "a.toml"
    path.write_bytes(data)
    assert read(path, "a list") == plain


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#" * (MAX_BYTES + 1), "is larger than 1 MiB; a list is a short TOML file"),
        (b"a = " + b"[" * 5000, "is nested too deeply; a list is a short TOML file"),
        (b"a = 1\na = 2", "is not TOML: Cannot overwrite a value (at end of document)"),
        (b"a = '\xff'", "is not UTF-8 text (byte 5); save it as UTF-8"),
        (b"a = " + b"9" * 5000, "is not TOML: it contains a number of thousands of digits"),
    ],
    ids=["large", "nested", "twice", "latin-1", "digits"],
)
def test_a_file_that_is_not_a_short_toml_file(tmp_path: Path, data: bytes, message: str) -> None:
    """The message has the path, what is wrong and what the file should be."""
    path = tmp_path / "a.toml"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read(path, "a list")
    assert str(caught.value) == f"{path}: {message}"

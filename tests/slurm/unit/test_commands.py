"""Calls of commands that succeed, fail, hang or are missing."""

import time
from pathlib import Path

import pytest

from paibench.slurm.commands import error_of, is_available, run


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the script `squeue`, first on PATH; the test writes it."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "squeue"
    path.touch(0o755)
    return path


def test_the_output_of_a_command(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is in English and with standard times, whatever the user's settings are."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    command.write_text('#!/bin/sh\necho "$1 $LC_ALL $SLURM_TIME_FORMAT"; echo warning >&2\n')
    assert run("squeue", "-h") == "-h C standard\n"
    assert error_of("squeue") == ""


def test_output_that_is_not_text(command: Path) -> None:
    """Bytes that are not UTF-8 are replaced."""
    command.write_text("#!/bin/sh\nprintf 'a\\377b'\n")
    assert run("squeue") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no; printf 'bad\\n  luck\\033\\n' >&2; exit 1", r"bad luck\x1b"),
        ("echo no; exit 1", "no"),
        ("exit 3", "status 3"),
        ("kill -9 $$", "status -9"),
    ],
    ids=["error output", "output", "silent", "killed"],
)
def test_a_command_that_fails(command: Path, script: str, message: str) -> None:
    """`run` returns None and `error_of` returns its message on one line."""
    command.write_text(f"#!/bin/sh\n{script}\n")
    assert run("squeue") is None
    assert error_of("squeue") == message


def test_a_command_that_hangs(command: Path) -> None:
    """A command is killed after its time, even if a child of it lives on."""
    command.write_text("#!/bin/sh\necho no\nsleep 60\n")
    start = time.monotonic()
    assert run("squeue", seconds=0.2) is None
    assert error_of("squeue", seconds=0.2) == "squeue does not answer within 0.2 s"
    assert time.monotonic() - start < 50


def test_a_missing_command() -> None:
    """The message is that of the operating system."""
    assert run("no-such-command") is None
    assert error_of("no-such-command") == "no-such-command: No such file or directory"


def test_a_file_that_is_not_a_program(command: Path) -> None:
    """A file that cannot be executed is like a missing command."""
    command.write_bytes(b"\x7fELF")
    command.rename(command.with_name("broken-command"))
    assert run("broken-command") is None
    assert error_of("broken-command") == "broken-command: Exec format error"


def test_is_available(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine has SLURM if both commands are on PATH."""
    monkeypatch.setenv("PATH", str(command.parent))
    assert not is_available()
    (command.parent / "sbatch").touch(0o755)
    assert is_available()

"""Standard output holds the JSON of a command and nothing else; finished runs need no writing."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from factories import PLUGINS, SWEEP, make_record, publish

from paibench import commands
from paibench.benchmark.store.store import Store

Say = Callable[..., tuple[int, str, str]]


def paibench(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own, with the plugins `parts`."""
    environment = os.environ | {"PYTHONPATH": str(PLUGINS / "parts")}
    command = [sys.executable, "-m", "paibench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_prints_of_a_model_go_to_standard_error(tmp_path: Path) -> None:
    """What a plugin prints, in Python or below it, does not stand before the JSON of a record."""
    run = (
        "run",
        "--method",
        "random",
        "--density",
        "0.5",
        "--recipe",
        "smoke",
        "--model",
        "prints",
    )
    done = paibench(tmp_path, *run, "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "done")
    assert done.stdout.count("\n") == 1
    assert "a line of Python\n" in done.stderr
    assert "a line of C\n" in done.stderr


def test_prints_of_a_recipe_go_to_standard_error(tmp_path: Path) -> None:
    """The same for what a module prints when a list imports it."""
    done = paibench(tmp_path, "recipes", "--json")
    assert json.loads(done.stdout)["loud"]["epochs"] == 1
    assert "a loud recipe\n" in done.stderr


@pytest.mark.slow
def test_prints_in_workers_go_to_standard_error(tmp_path: Path) -> None:
    """The events of a sweep are the only lines of its standard output."""
    (tmp_path / "s.toml").write_text(SWEEP.replace("lenet-300-100", "prints"))
    done = paibench(tmp_path, "sweep", "s.toml", "--jobs", "1", "--json")
    assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["done"]


def test_json_is_printed_in_one_place() -> None:
    """No command prints JSON by itself, where the output of a plugin would stand beside it."""
    [folder] = commands.__path__
    for path in Path(folder).glob("*.py"):
        prints = re.findall(r"typer\.echo\((?:json\.dumps|.*to_json).*", path.read_text())
        assert not prints, path.name


def test_the_version(say: Say) -> None:
    """`--version` prints the version, and the commit of a checkout."""
    status, out, err = say("--version")
    assert (status, err) == (0, "")
    assert out.startswith(f"paibench {version('paibench')}")
    assert out.count("\n") == 1


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lets every attempt to write below tmp_path / "store" fail, as on a read-only file system.

    Yields the paths of all attempts.
    """
    attempts: list[str] = []
    root = str(tmp_path / "store")

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        writing = event in ("os.mkdir", "os.link", "os.rename", "os.remove", "os.utime", "os.rmdir")
        if event == "open" and isinstance(arguments[2], int):
            writing = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        paths = [os.fspath(each) for each in arguments if isinstance(each, str | Path)]
        if active and writing and any(path.startswith(root) for path in paths):
            attempts.append(f"{event} {paths}")
            raise OSError(errno.EROFS, "Read-only file system", paths[0])

    # A hook of this process cannot be removed, but it can be switched off.
    active = True
    sys.addaudithook(refuse)
    yield attempts
    active = False


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with one finished run, and a sweep of it; returns the key."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SWEEP)
    record = make_record(method="random", recipe="smoke", density=0.5)
    publish(Store.open(tmp_path / "store"), record)
    return record.key


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--method", "random", "--density", "0.5", "--recipe", "smoke", "--json"),
        ("sweep", "s.toml"),
        ("plan", "s.toml"),
        ("status", "s.toml"),
        ("show", "KEY", "--json"),
    ],
    ids=lambda command: command[0],
)
def test_a_store_that_is_read_only(
    say: Say, finished: str, read_only: list[str], command: tuple[str, ...]
) -> None:
    """A finished run is found in it by every command, and nothing is written."""
    arguments = [finished if word == "KEY" else word for word in command]
    status, out, err = say(*arguments, "--out", "store")
    assert (status, read_only) == (0, [])
    said = {"run": finished, "show": finished, "sweep": "1 done, 0 to do", "plan": "1 done, 0 miss"}
    assert (
        said.get(command[0], finished if command[0] == "show" else "1 of 1 runs done") in out + err
    )


def test_a_missing_run_in_a_store_that_is_read_only(
    say: Say, finished: str, read_only: list[str]
) -> None:
    """A run that is not done is refused in one line."""
    run = ("run", "--method", "random", "--density", "0.25", "--recipe", "smoke")
    status, out, err = say(*run, "--out", "store")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "Read-only file system" in err
    assert read_only

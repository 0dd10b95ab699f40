"""Walls around a process, tried from within: what they let through, and what not.

What a kernel does not have cannot be tried; which walls there are is said first.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from paibench.benchmark.sandbox import landlock
from paibench.benchmark.sandbox.landlock import LIST, READ, rules_except
from paibench.benchmark.sandbox.parent import isolation_here

HERE = isolation_here()
LANDLOCK = any(wall.startswith("landlock") for wall in HERE)

WITHIN = """
import json, os, sys
from pathlib import Path
from paibench.benchmark.sandbox.isolation import ResourceLimits, isolate
given = json.loads(sys.argv[1])
limits = ResourceLimits(memory_mb=400, disk_mb=1)
readable, hidden = (list(map(Path, given[name])) for name in ("readable", "hidden"))
walls = isolate(Path(given["folder"]), readable, hidden, limits, "cpu")
def tried(code):
    try:
        return repr(eval(code))
    except BaseException as error:
        return type(error).__name__
print(json.dumps([walls, [tried(code) for code in given["codes"]]]), flush=True)
"""


def within(folder: Path, *codes: str, readable: Any = (), hidden: Any = ()) -> list[str]:
    """What expressions give behind walls: a repr, or the type of what they raise."""
    inside = folder / "inside"
    inside.mkdir(exist_ok=True)
    given = {
        "folder": str(inside),
        "codes": codes,
        "readable": [*map(str, readable)],
        "hidden": [*map(str, hidden)],
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHIN, json.dumps(given)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    walls, found = json.loads(done.stdout)
    assert walls == HERE
    return [str(each) for each in found]


def test_which_walls_there_are() -> None:
    """On Linux there is at least a process, a folder of its own, and limits."""
    assert HERE[:3] == ["process", "folder", "limits"]
    assert len(set(HERE)) == len(HERE)


def test_its_own_folder_is_its_own(tmp_path: Path) -> None:
    """It is the present one, and anything may be done there."""
    codes = [
        "os.getcwd()",
        "Path('a/b').mkdir(parents=True) or Path('a/b/c').write_text('x')",
        "os.rename('a/b/c', 'd') or Path('d').read_text()",
    ]
    assert within(tmp_path, *codes) == [repr(str(tmp_path / "inside")), "1", "'x'"]


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
def test_files(tmp_path: Path) -> None:
    """What is named can be read and not written, what is hidden in it and all else neither."""
    shown, hidden, other = (tmp_path / name for name in ("shown", "shown/hidden", "other"))
    for folder in (shown, hidden, other):
        folder.mkdir()
        (folder / "file").write_text("here")
    read = [f"Path('{folder}/file').read_text()" for folder in (shown, hidden, other)]
    write = [f"Path('{folder}/new').touch()" for folder in (shown, hidden, other)]
    found = within(tmp_path, *read, *write, readable=[shown], hidden=[hidden])
    assert found[0] == "'here'"
    assert set(found[1:]) <= {"PermissionError", "FileNotFoundError", "OSError"}
    assert not any((folder / "new").exists() for folder in (shown, hidden, other))
    assert within(tmp_path, "Path('/etc/passwd').read_text()") == ["PermissionError"]


def test_the_network(tmp_path: Path) -> None:
    """A server of this machine cannot be reached."""
    if not LANDLOCK and "network namespace" not in HERE:
        pytest.skip("this kernel has neither Landlock nor a network namespace for us")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen()
        port = server.getsockname()[1]
        connect = f"__import__('socket').create_connection(('127.0.0.1', {port}), timeout=2)"
        (found,) = within(tmp_path, connect)
        assert found in ("PermissionError", "ConnectionRefusedError", "OSError")
        socket.create_connection(("127.0.0.1", port)).close()


def test_other_processes(tmp_path: Path) -> None:
    """It sees no process but its own, and may signal none of ours."""
    if "pid namespace" not in HERE:
        pytest.skip("this kernel gives us no namespace of processes")
    codes = [
        "os.getppid()",
        f"os.kill({os.getpid()}, 0)",
        "len([name for name in os.listdir('/proc') if name.isdecimal()])",
    ]
    assert within(tmp_path, *codes) == ["1", "ProcessLookupError", "2"]


def test_limits(tmp_path: Path) -> None:
    """More memory than allowed is refused as such, and so is a larger file."""
    codes = ["len(bytearray(300 << 20))", "bytearray(500 << 20)"]
    codes += [f"Path('x').write_bytes(bytes({size}))" for size in (1 << 20, (1 << 20) + 1)]
    sizes = [str(300 << 20), "MemoryError", str(1 << 20), "OSError"]
    assert within(tmp_path, *codes) == sizes


def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A daemon that has left its session and its parents is gone when the process is."""
    seconds = f"{600 + int(uuid4()) % 1_000_000 / 1e6:.6f}"  # nobody else sleeps for as long
    with subprocess.Popen(["sleep", seconds]) as ours:
        deadline = time.monotonic() + 60
        while not (found := list(_at_work("sleep", seconds))) and time.monotonic() < deadline:
            time.sleep(0.01)  # its command line comes a moment after it
        ours.kill()
    assert found == [ours.pid]
    daemon = (
        "os.fork() or (os.setsid(), os.fork() and os._exit(0), "
        f"os.execvp('sleep', ['sleep', '{seconds}']))"
    )
    within(tmp_path, daemon, "__import__('time').sleep(0.2)")
    assert list(_at_work("sleep", seconds)) == []


def _at_work(*words: str) -> Iterator[int]:
    """The processes with a command line of these words."""
    command = "".join(f"{word}\0" for word in words).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == command:
                yield int(path.parent.name)


def test_around(tmp_path: Path) -> None:
    """What lies beside something hidden is named one by one, at every depth."""
    for name in ("a/b/secret", "a/b/c", "a/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    (tmp_path / "a/link").symlink_to(tmp_path / "a/b/secret")
    found = rules_except([tmp_path / "a"], [tmp_path / "a/b/secret"])
    assert found == {
        tmp_path / "a": LIST,
        tmp_path / "a/b": LIST,
        tmp_path / "a/b/c": READ,
        tmp_path / "a/b/file": READ,
        tmp_path / "a/d": READ,
    }
    assert rules_except([tmp_path / "a/d"], [tmp_path / "a/b"]) == {tmp_path / "a/d": READ}
    assert rules_except([tmp_path / "a"], [tmp_path / "a"]) == {}
    # what is needed although it lies in something hidden
    assert rules_except([tmp_path / "a/b/c"], [tmp_path / "a"]) == {tmp_path / "a/b/c": READ}


def test_without_landlock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the kernel has none, nothing is given up and none is said to be there."""
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert landlock.restrict({tmp_path: READ}) == 0
    assert Path("/etc/passwd").exists()

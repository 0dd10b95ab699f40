"""Fixtures that tests of several folders use: records, stores, the command line."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests run side by side: with a thread per core each, processes spend most of their time waiting
# for each other's threads. Torch reads this when it is imported, here and in child processes.
os.environ["OMP_NUM_THREADS"] = "1"

from factories import installed, make_record, publish

from paibench import cli
from paibench.benchmark.record import Record
from paibench.benchmark.store.store import Store
from paibench.commands import options

# The same examples each time; how long one takes depends on what else the machine does.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]
Said = tuple[int, str, str]
Say = Callable[..., Said]


def use_memory_for_files(folder: str = "/dev/shm", needed_bytes: int = 4 * 2**30) -> None:
    """Let tests write to the file system in memory, if it has space and may hold programs.

    A store has 256 folders. To make and to remove these takes most of the time of many tests on a
    disk, and next to none in memory.
    """
    if os.access(folder, os.W_OK):
        system = os.statvfs(folder)
        has_space = system.f_bavail * system.f_frsize >= needed_bytes
        if has_space and not system.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)


def pytest_configure(config: pytest.Config) -> None:
    """Let the usual tests write to memory, and xdist start the files of `loadfile` by their names.

    Its own order starts the files with the most tests first. Our longest files have few tests, so
    that they would come last, and one of two processes would wait for the other.
    """
    # What is run by name needs a disk: sandboxes have a /dev/shm of their own, and virtual
    # environments link to the files of this one.
    if config.option.markexpr.startswith("not "):
        use_memory_for_files()
    config.option.loadscopereorder = False


@pytest.fixture
def record_factory() -> RecordFactory:
    """Makes a valid record: `record_factory(method="random", density=0.1, accuracy=0.8)`."""
    return make_record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store at tmp_path / "store"."""
    return Store.open(tmp_path / "store")


@pytest.fixture
def store_factory(tmp_path: Path) -> StoreFactory:
    """Makes a store with these records in it, at tmp_path / "store"."""

    def make(records: Iterable[Record]) -> Path:
        store = Store.open(tmp_path / "store")
        publish(store, *records)
        return store.root

    return make


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command line in this process: its exit status, standard output and error."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["paibench", *arguments])
        with pytest.raises(SystemExit) as caught:
            try:
                cli.main()
            finally:
                options.release_output()
        out, err = capsys.readouterr()
        code = caught.value.code
        if isinstance(code, str):  # as the interpreter does at its end
            return 1, out, f"{err}{code}\n"
        return int(code or 0), out, err

    return run


@pytest.fixture
def hostile() -> Iterator[None]:
    """The methods of `plugins/hostile` are installed, here and in workers."""
    with installed("hostile"):
        yield


@pytest.fixture
def parts() -> Iterator[None]:
    """The models, data sets and recipes of `plugins/parts` are installed, here and in workers."""
    with installed("parts"):
        yield

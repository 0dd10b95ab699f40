"""A data set is downloaded once and whole, however many ask for it and whatever goes wrong."""

import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError

import pytest

from paibench.benchmark.data.download import SOURCES, Source, install, prepare
from paibench.methods.core import registry
from paibench.methods.core.registry import UserError

CONTENT = "all of it"


def check(folder: Path) -> None:
    """The toy set is a folder with one file and a second file beside it."""
    for file in (folder / "toy" / "data", folder / "toy.mat"):
        if not file.is_file() or file.read_text() != CONTENT:
            raise UserError(f"toy: {file} is not right")


def fetch(folder: Path) -> None:
    (folder / "toy").mkdir()
    (folder / "toy" / "data").write_text(CONTENT)
    (folder / "toy.mat").write_text(CONTENT)
    (folder / "toy.tar.gz").write_text("packed")


TOY = Source(("toy", "toy.mat"), fetch, check)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_set_is_fetched_once(tmp_path: Path) -> None:
    """The first call downloads, the second finds it; nothing but the set and our folder is left."""
    root = tmp_path / "new" / "data"
    assert install("toy", TOY, root) == f"toy is downloaded to {root}"
    check(root)
    again = Source(TOY.entries, lambda folder: pytest.fail("fetched twice"), check)
    assert install("toy", again, root) == f"toy is already in {root}"
    assert names(root) == [".paibench", "toy", "toy.mat"]
    assert names(root / ".paibench" / "prepare-toy") == []


def test_what_is_there_and_right_is_not_touched(tmp_path: Path) -> None:
    """A set that somebody else put there is found and left as it is."""
    fetch(tmp_path)
    before = (tmp_path / "toy" / "data").stat()
    again = Source(TOY.entries, lambda folder: pytest.fail("fetched"), check)
    assert install("toy", again, tmp_path) == f"toy is already in {tmp_path}"
    assert (tmp_path / "toy" / "data").stat() == before
    assert ".paibench" not in names(tmp_path)


def test_a_damaged_set_is_put_aside_not_deleted(tmp_path: Path) -> None:
    """Where the set is there but not right, it is fetched again and the old one is kept."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "data").write_text("half")
    said = install("toy", TOY, tmp_path)
    check(tmp_path)
    found = re.fullmatch(r".*; the damaged one that was there is now in (.*)", said)
    assert found and (Path(found[1]) / "toy" / "data").read_text() == "half"


def breaks_off(folder: Path) -> None:
    (folder / "toy").mkdir()
    raise URLError("no route\nto host")


def wrong(folder: Path) -> None:
    fetch(folder)
    (folder / "toy.mat").write_text("an error page")


def bad_hash(folder: Path) -> None:
    raise RuntimeError("File not found or corrupted.")


@pytest.mark.parametrize(
    "fetcher, says",
    [
        (breaks_off, "toy: the download failed: <urlopen error no route to host>; try again"),
        (bad_hash, "toy: the download failed: File not found or corrupted.; try again"),
        (wrong, r"toy: .*/toy.mat is not right"),
    ],
)
def test_a_download_that_fails_leaves_nothing(tmp_path: Path, fetcher: object, says: str) -> None:
    """A failed download says why in one line, and the next call starts afresh."""
    assert callable(fetcher)
    with pytest.raises(UserError) as caught:
        install("toy", Source(TOY.entries, fetcher, check), tmp_path)
    assert re.fullmatch(says, str(caught.value))
    assert names(tmp_path) == [".paibench"]
    assert names(tmp_path / ".paibench" / "prepare-toy") == []
    assert install("toy", TOY, tmp_path) == f"toy is downloaded to {tmp_path}"


def test_a_data_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    """A file in place of the data folder is said in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"toy: cannot be installed in {tmp_path}/file: .*"):
        install("toy", TOY, tmp_path / "file")


SCRIPT = """
import os, sys, time
from pathlib import Path
from paibench.benchmark.data.download import Source, install
from paibench.methods.core.registry import UserError

root = Path(sys.argv[1])

def fetch(folder):
    with open(root / "log", "a") as log:
        log.write(f"{os.getpid()}\\n")
    (folder / "toy").mkdir()
    (folder / "toy" / "data").write_text("half of it")
    time.sleep(float(sys.argv[2]))
    (folder / "toy" / "data").write_text("all of it")

def check(folder):
    if (folder / "toy" / "data").read_text() != "all of it":
        raise UserError("a half was seen")

print(install("toy", Source(("toy",), fetch, check), root, pause=0.02))
assert "torch" not in sys.modules
"""


def start(root: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_four_at_once_one_downloads(tmp_path: Path) -> None:
    """Four processes at once: one fetches, the others wait for it and find it."""
    processes = [start(tmp_path, 0.3) for _ in range(4)]
    said = sorted(process.communicate()[0] for process in processes)
    assert [process.returncode for process in processes] == [0] * 4
    assert said == [f"toy is already in {tmp_path}\n"] * 3 + [f"toy is downloaded to {tmp_path}\n"]
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert names(tmp_path / ".paibench" / "prepare-toy") == []


def test_a_download_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    """After a kill in the middle, the next one fetches it and sweeps up what was left."""
    first = start(tmp_path, 60)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".paibench/prepare-toy/download-*/toy/data")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.kill()
    first.communicate()
    second = start(tmp_path, 0)
    assert second.communicate(timeout=120)[0] == f"toy is downloaded to {tmp_path}\n"
    assert (tmp_path / "toy" / "data").read_text() == CONTENT
    assert names(tmp_path / ".paibench" / "prepare-toy") == []


@pytest.mark.parametrize(
    "name, says",
    [
        ("digits", "digits cannot be downloaded: it is embedded"),
        ("imagenet", "imagenet cannot be downloaded: get it from image-net.org"),
        ("imagefolder", "imagefolder cannot be downloaded"),
        ("cifar", "unknown data set 'cifar'; did you mean"),
        ("../x", r"unknown data set '\.\./x'; known: "),
    ],
)
def test_what_cannot_be_downloaded_is_said(tmp_path: Path, name: str, says: str) -> None:
    """Sets that have no download, and names that are none, are refused; nothing is written."""
    with pytest.raises(UserError, match=says):
        prepare(name, tmp_path)
    assert names(tmp_path) == []


def test_every_download_knows_what_it_brings() -> None:
    """Each set that can be fetched is a registered data set with entries of its own."""
    entries = [entry for source in SOURCES.values() for entry in source.entries]
    assert len(set(entries)) == len(entries) == len(SOURCES) + 1
    assert set(SOURCES) < set(registry.names("datasets"))

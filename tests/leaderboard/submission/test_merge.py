"""Adding a submission to a store: all of it or nothing, and nothing that is there is touched."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paibench.benchmark.store.store import Store
from paibench.leaderboard.submission.merge import merge
from paibench.methods.core.registry import UserError

Edit = Callable[..., None]


def tree(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def into(sound: Path, tmp_path: Path) -> Path:
    """A store that has half of the records."""
    shutil.copytree(sound, tmp_path / "into")
    for path in sorted((tmp_path / "into" / "runs").glob("*/*.json"))[::2]:
        path.unlink()
        shutil.rmtree(path.with_suffix(""))
    return tmp_path / "into"


def test_all_that_is_new(sound: Path, into: Path) -> None:
    """Records, masks and curves come over byte for byte, and a second time changes nothing."""
    merged = merge(sound, into)
    assert (dict(merged.new), merged.already) == (
        {"records": 7, "masks": 7, "curves": 7, "sweeps": 0},
        7,
    )
    assert tree(into) == tree(sound)
    again = merge(sound, into)
    assert (sum(again.new.values()), again.already) == (0, 14)
    assert tree(into) == tree(sound)


def test_a_dry_run(sound: Path, into: Path) -> None:
    """It counts the same and writes nothing."""
    before = tree(into)
    said = merge(sound, into, dry_run=True)
    assert tree(into) == before
    assert said.new == merge(sound, into).new


def test_nothing_comes_of_what_is_not_sound(sound: Path, into: Path, edit: Edit) -> None:
    """One falsified record, and none is added."""
    before = tree(into)
    new = min(Store.read(sound).listing().done - Store.read(into).listing().done)
    edit(sound, new, search_seconds=-1.0)
    merged = merge(sound, into)
    assert [found.check for found in merged.report.findings if found.severity == "error"] == [
        "range"
    ]
    assert (sum(merged.new.values()), tree(into)) == (0, before)


def test_a_record_that_is_there_stays(sound: Path, into: Path, edit: Edit) -> None:
    """Another record of a run that is there is an error, and not written over it."""
    before = tree(into)
    edit(sound, min(Store.read(into).listing().done), environment__host="elsewhere")
    assert not merge(sound, into).report.sound
    assert tree(into) == before


def test_what_is_no_store(sound: Path, into: Path, tmp_path: Path) -> None:
    """One line says which: neither folders of stores nor the store itself are merged."""
    for source, target in ((sound, sound), (sound.parent, into), (sound, tmp_path / "nowhere")):
        with pytest.raises(UserError):
            merge(source, target)

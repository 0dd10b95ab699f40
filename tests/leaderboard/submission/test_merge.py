"""A merge adds all of a submission or nothing, and changes no file of the target."""

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
def into(submission: Path, tmp_path: Path) -> Path:
    """A store that has half of the records."""
    shutil.copytree(submission, tmp_path / "into")
    for path in sorted((tmp_path / "into" / "runs").glob("*/*.json"))[::2]:
        path.unlink()
        shutil.rmtree(path.with_suffix(""))
    return tmp_path / "into"


def test_new_records_are_copied(submission: Path, into: Path) -> None:
    """Records and their files are copied byte for byte; a second merge changes nothing."""
    merged = merge(submission, into, maintainer=True)
    assert (dict(merged.new), merged.already) == (
        {"records": 7, "masks": 7, "curves": 7, "predictions": 7, "sweeps": 0},
        7,
    )
    assert tree(into) == tree(submission)
    again = merge(submission, into, maintainer=True)
    assert (sum(again.new.values()), again.already) == (0, 14)
    assert tree(into) == tree(submission)


def test_published_cells_are_closed(submission: Path, into: Path) -> None:
    """Nobody but a maintainer adds seeds to the cells of a store."""
    before = tree(into)
    merged = merge(submission, into)
    assert {each.check for each in merged.report.findings if each.severity == "error"} == {"closed"}
    assert (sum(merged.new.values()), tree(into)) == (0, before)


def test_a_dry_run(submission: Path, into: Path) -> None:
    """A dry run gives the same counts and writes nothing."""
    before = tree(into)
    counted = merge(submission, into, dry_run=True, maintainer=True)
    assert tree(into) == before
    assert counted.new == merge(submission, into, maintainer=True).new


def test_an_invalid_submission_adds_nothing(submission: Path, into: Path, edit: Edit) -> None:
    """If one record is forged, no record is added."""
    before = tree(into)
    new = min(Store.read(submission).listing().done - Store.read(into).listing().done)
    edit(submission, new, search_seconds=-1.0)
    merged = merge(submission, into, maintainer=True)
    assert [each.check for each in merged.report.findings if each.severity == "error"] == ["range"]
    assert (sum(merged.new.values()), tree(into)) == (0, before)


def test_an_existing_record_is_not_overwritten(submission: Path, into: Path, edit: Edit) -> None:
    """A different record of an existing run is an error."""
    before = tree(into)
    edit(submission, min(Store.read(into).listing().done), environment__host="elsewhere")
    assert not merge(submission, into, maintainer=True).report.valid
    assert tree(into) == before


def test_only_two_different_stores_are_merged(submission: Path, into: Path, tmp_path: Path) -> None:
    """A folder of stores, the same store twice and a missing store are refused."""
    for source, target in (
        (submission, submission),
        (submission.parent, into),
        (submission, tmp_path / "nowhere"),
    ):
        with pytest.raises(UserError):
            merge(source, target)

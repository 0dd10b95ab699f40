"""A submission on disk: read as it was written, identified by its name."""

import json
import time
from pathlib import Path

import pytest
from fake_commands import small_runs

from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import decode
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission, find_submission, is_job_name

RUNS = tuple(small_runs(7))
PROFILE = Profile(name="a", setup=["module load x"], data=Path("/data"), extra={"nice": 5})


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """Four jobs of up to two runs, in arrays of up to three."""
    bundles = [RUNS[0:2], RUNS[2:4], RUNS[4:6], RUNS[6:]]
    store = Store.open(tmp_path / "store")
    return Submission.new(
        *(store, "tiny", bundles, 3, PROFILE, Path("/data")), retry=True, plugins={"mine": "0" * 64}
    )


def test_write_and_read(submission: Submission) -> None:
    """A written submission is read completely, profile and code included."""
    assert not submission.folder.exists()
    submission.write()
    assert Submission.read(submission.folder) == submission
    assert submission.specs == RUNS


def test_every_run_is_in_one_job(submission: Submission) -> None:
    """Arrays are as long as allowed, and each index has its own bundle."""
    assert submission.chunks() == [3, 1]
    bundles = [
        submission.bundle(chunk, i) for chunk, size in enumerate([3, 1]) for i in range(size)
    ]
    assert [run for bundle in bundles for run in bundle] == list(RUNS)
    assert submission.bundle(1, 1) == ()


def test_names_are_unique(submission: Submission) -> None:
    """Two submissions of one second have different names, and each is found by its name."""
    store = Store.read(submission.store)
    other = Submission.new(*(store, "tiny", [RUNS], 3, PROFILE, None), retry=False, plugins={})
    submission.write()
    other.write()
    assert submission.name != other.name
    assert find_submission(store, f"{submission.name}-1") == (submission, 1)
    assert find_submission(store, f"{other.name}-0") == (other, 0)
    assert find_submission(store, "pai-00000000-0") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pai-0123abcd-0", True), ("pai-0123abcd", False), ("pai-0123abcg-0", False), ("bash", False)],
)
def test_job_names(name: str, expected: bool) -> None:
    """The whole name decides whether a job belongs to a submission."""
    assert is_job_name(name) is expected


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_manifest(submission: Submission, damage: str) -> None:
    """The manifest is refused in one line that says what to do."""
    submission.write()
    path = submission.folder / "manifest.json"
    text = path.read_text()
    path.unlink()
    if damage != "gone":
        path.write_text(text[:-40] if damage == "cut" else text.replace("digits", "mnist"))
    with pytest.raises(UserError, match="manifest.json: cannot be read: .*; submit again$"):
        Submission.read(submission.folder)


def test_abort_once(submission: Submission) -> None:
    """The first reason stays."""
    submission.write()
    assert submission.aborted is None
    submission.abort("no data")
    submission.abort("something else")
    assert submission.aborted == "no data"


def test_the_manifest_is_json(submission: Submission) -> None:
    """The manifest holds plain values only."""
    submission.write()
    plain = decode(read(submission.folder / "manifest.json"))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["code"].keys() == {"version", "commit", "dirty", "sha256"}
    assert plain["bundles"][3] == [RUNS[6].canonical]


def test_twenty_thousand_runs(tmp_path: Path) -> None:
    """20,000 runs are written and read in a few seconds."""
    runs = small_runs(20_000)
    bundles = [tuple(runs[first : first + 100]) for first in range(0, 20_000, 100)]
    store = Store.open(tmp_path / "store")
    start = time.monotonic()
    submission = Submission.new(
        *(store, "many", bundles, 1001, PROFILE, None), retry=False, plugins={}
    )
    submission.write()
    assert Submission.read(submission.folder).specs == tuple(runs)
    assert time.monotonic() - start < 60

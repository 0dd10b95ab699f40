"""A campaign on disk: complete before anything is queued, and read again as it was written."""

import json
import time
from pathlib import Path

import pytest

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import decode
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission, find_submission, is_ours

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUNS = tuple(Spec.model_validate(GIVEN | {"method": "random", "seed": seed}) for seed in range(7))
PROFILE = Profile(name="a", setup=["module load x"], data=Path("/data"), extra={"nice": 5})


@pytest.fixture
def campaign(tmp_path: Path) -> Submission:
    """Four jobs of up to two runs, in arrays of up to three."""
    bundles = [RUNS[0:2], RUNS[2:4], RUNS[4:6], RUNS[6:]]
    store = Store.open(tmp_path / "store")
    return Submission.new(
        *(store, "tiny", bundles, 3, PROFILE, Path("/data")), retry=True, plugins={"mine": "0" * 64}
    )


def test_it_is_read_as_it_was_written(campaign: Submission) -> None:
    """Nothing is there before it is written; then all of it, profile and code included."""
    assert not campaign.folder.exists()
    campaign.write()
    assert Submission.read(campaign.folder) == campaign
    assert campaign.specs == RUNS


def test_every_run_is_in_one_job(campaign: Submission) -> None:
    """Arrays are as long as allowed, and each index finds its own bundle."""
    assert campaign.chunks() == [3, 1]
    found = [campaign.bundle(chunk, i) for chunk, size in enumerate([3, 1]) for i in range(size)]
    assert [run for bundle in found for run in bundle] == list(RUNS)
    assert campaign.bundle(1, 1) == ()


def test_names_are_never_used_twice(campaign: Submission) -> None:
    """Two campaigns of one second have other names, and each is found by its own."""
    store = Store.read(campaign.store)
    other = Submission.new(*(store, "tiny", [RUNS], 3, PROFILE, None), retry=False, plugins={})
    campaign.write()
    other.write()
    assert campaign.name != other.name
    assert find_submission(store, f"{campaign.name}-1") == (campaign, 1)
    assert find_submission(store, f"{other.name}-0") == (other, 0)
    assert find_submission(store, "pai-00000000-0") is None


@pytest.mark.parametrize(
    ("name", "ours"),
    [("pai-0123abcd-0", True), ("pai-0123abcd", False), ("pai-0123abcg-0", False), ("bash", False)],
)
def test_jobs_of_others(campaign: Submission, name: str, ours: bool) -> None:
    """A job is ours by the whole of its name."""
    assert is_ours(name) is ours


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_manifest_that_cannot_be_trusted(campaign: Submission, damage: str) -> None:
    """It is refused in one line that says what to do."""
    campaign.write()
    path = campaign.folder / "manifest.json"
    text = path.read_text()
    path.unlink()
    if damage != "gone":
        path.write_text(text[:-40] if damage == "cut" else text.replace("digits", "mnist"))
    with pytest.raises(UserError, match="manifest.json: cannot be read: .*; say submit again$"):
        Submission.read(campaign.folder)


def test_it_is_given_up_once(campaign: Submission) -> None:
    """The first reason stays."""
    campaign.write()
    assert campaign.stopped is None
    campaign.stop("no data")
    campaign.stop("something else")
    assert campaign.stopped == "no data"


def test_plain_values_travel(campaign: Submission) -> None:
    """The manifest is JSON with keys that say what they are."""
    campaign.write()
    plain = decode(read(campaign.folder / "manifest.json"))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["code"].keys() == {"version", "commit", "dirty", "sha256"}
    assert plain["bundles"][3] == [RUNS[6].canonical]


def test_twenty_thousand_runs(tmp_path: Path) -> None:
    """They are written and read in a few seconds."""
    given = GIVEN | {"method": "random"}
    runs = [Spec.model_validate(given | {"seed": seed}) for seed in range(20_000)]
    bundles = [tuple(runs[place : place + 100]) for place in range(0, 20_000, 100)]
    store = Store.open(tmp_path / "store")
    begun = time.monotonic()
    campaign = Submission.new(
        *(store, "many", bundles, 1001, PROFILE, None), retry=False, plugins={}
    )
    campaign.write()
    assert Submission.read(campaign.folder).specs == tuple(runs)
    assert time.monotonic() - begun < 10

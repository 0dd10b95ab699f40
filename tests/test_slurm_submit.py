"""What submitting a sweep comes to; scripts stand in for the commands of SLURM."""

from pathlib import Path

import pytest
from standing_in import stand_in

from paibench.benchmark import claims, failures
from paibench.benchmark.store import Store
from paibench.benchmark.sweep import Sweep, expand
from paibench.methods.registry import UserError
from paibench.slurm import submit as submits
from paibench.slurm.campaign import Campaign
from paibench.slurm.limits import Limits
from paibench.slurm.profile import Profile
from paibench.slurm.queue import Queue, QueuedJob
from paibench.slurm.submit import Outlook, outlook, submit

PROFILE = Profile(name="a", runs_per_job=2)


@pytest.fixture
def sweep() -> Sweep:
    """Seven runs."""
    product = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
    return expand({"name": "tiny", "product": product | {"method": "random", "seed": [*range(7)]}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def seen(sweep: Sweep, store: Store, there: Queue | None = None, **limits: int) -> Outlook:
    return outlook(sweep, store, PROFILE, Limits(**limits), there, None)


def counts(found: Outlook) -> tuple[int, int, int]:
    """How many runs are under way, to be queued, waiting."""
    return len(found.under_way), len(found.queued), found.waiting


def test_looking_changes_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """A store need not even be there."""
    found = seen(sweep, Store(tmp_path / "none"))
    assert counts(found) == (0, 7, 0)
    assert found.campaign is not None
    assert found.campaign.chunks() == [4]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "others", "expected"),
    [
        ({"max_array_size": 3}, 0, [3, 1]),
        ({"max_submit": 3}, 0, [3]),
        ({"max_jobs": 3}, 2, [1]),
        ({"max_submit": 3, "max_jobs": 2}, 0, [2]),
        ({"max_submit": 3}, 5, []),
    ],
    ids=["array", "submit", "others", "both", "full"],
)
def test_as_much_as_there_is_room_for(
    sweep: Sweep, store: Store, limits: dict[str, int], others: int, expected: list[int]
) -> None:
    """What does not fit waits."""
    there = Queue(store, (), frozenset(range(others)))
    found = seen(sweep, store, there, **limits)
    assert (found.campaign.chunks() if found.campaign else []) == expected
    assert len(found.queued) + found.waiting == 7


def test_what_is_queued_is_left_out(sweep: Sweep, store: Store) -> None:
    """A queued run is under way even where its last attempt failed for good."""
    first = seen(sweep, store).campaign
    assert first is not None
    first.write()
    for spec in first.bundle(0, 0):
        failures.note(store, spec, "host.1.00000000", "plugin", "no")
    job = QueuedJob(7, "7_0", 0, "PENDING", f"{first.name}-0", "")
    found = seen(sweep, store, Queue(store, (job,), frozenset()))
    assert (counts(found), found.failed) == ((2, 5, 0), ())
    alone = seen(sweep, store)
    assert (counts(alone), len(alone.failed)) == ((0, 5, 0), 2)


@pytest.mark.parametrize(
    ("state", "under_way"),
    [("PENDING", 2), ("RUNNING", 2), ("SUSPENDED", 2), ("REQUEUED", 2), ("COMPLETING", 0)],
)
def test_what_a_job_has_yet_to_do(sweep: Sweep, store: Store, state: str, under_way: int) -> None:
    """A job that is about to end does nothing more, and its runs are queued again."""
    first = seen(sweep, store).campaign
    assert first is not None
    first.write()
    job = QueuedJob(7, "7_0", 0, state, f"{first.name}-0", "None")
    found = seen(sweep, store, Queue(store, (job,), frozenset()))
    assert counts(found) == (under_way, 7 - under_way, 0)


def test_what_somebody_is_at_is_left_out(sweep: Sweep, store: Store) -> None:
    """A claim of a local pool counts."""
    held = store.claim(sweep.specs[3].key, "host.1.00000000")
    assert held is not None
    assert counts(seen(sweep, store)) == (1, 6, 0)


def test_submitting(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The campaign is whole on disk when sbatch is called."""
    check = f"ls {store.root}/submissions/*/manifest.json >/dev/null || exit 1"
    stand_in(tmp_path, monkeypatch, squeue="", sbatch=f"{check}\necho Submitted batch job 17")
    found, numbers = submit(sweep, store, PROFILE, Limits(), None)
    assert numbers == ["17"]
    assert found.campaign is not None
    assert Campaign.read(found.campaign.folder) == found.campaign
    assert not (store.root / "submissions" / "claim").exists()


def test_one_submission_at_a_time(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While another submission to the store is made, one waits for it and says so once."""
    other = claims.claim(store.root / "submissions", "host.1.00000000")
    assert other is not None
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert not (tmp_path / "calls").exists()
        if looks == 3 * submits._SILENT_TURNS:
            other.release()

    stand_in(tmp_path, monkeypatch, squeue="", sbatch="echo Submitted batch job 17")
    monkeypatch.setattr("paibench.slurm.submit.sleep", sleep)
    assert submit(sweep, store, PROFILE, Limits(), None)[1] == ["17"]
    said = "paibench: another submission to this store is made; waiting\n"
    assert capsys.readouterr().err == said


def test_a_short_wait_for_another_submission_is_silent(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What takes a moment is not worth a line."""
    other = claims.claim(store.root / "submissions", "host.1.00000000")
    assert other is not None
    stand_in(tmp_path, monkeypatch, squeue="", sbatch="echo Submitted batch job 17")
    monkeypatch.setattr("paibench.slurm.submit.sleep", lambda seconds: other.release())
    assert submit(sweep, store, PROFILE, Limits(), None)[1] == ["17"]
    assert capsys.readouterr().err == ""


def test_an_array_for_which_there_is_no_room(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays before it are queued, its runs wait."""
    once = f"mkdir {tmp_path}/once 2>/dev/null && echo Submitted batch job 17 && exit 0"
    full = "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, squeue="", sbatch=f"{once}\n{full}")
    limits = Limits(max_array_size=2)
    found, numbers = submit(sweep, store, PROFILE, limits, None)
    assert (numbers, counts(found)) == (["17"], (0, 4, 3))
    found, numbers = submit(sweep, store, PROFILE, limits, None)
    assert (numbers, counts(found)) == ([], (0, 0, 7))
    assert len(list((store.root / "submissions").iterdir())) == 1


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({"squeue": "exit 1"}, "controller does not answer squeue"),
        ({"squeue": "", "sbatch": "echo 'sbatch: error: bad' >&2; exit 1"}, "sbatch refuses: bad"),
    ],
    ids=["no answer", "refused"],
)
def test_what_is_refused_leaves_nothing(
    sweep: Sweep,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scripts: dict[str, str],
    said: str,
) -> None:
    """No campaign, no claim, and one line that says why."""
    monkeypatch.setattr(submits, "_ANSWERS", 1)
    stand_in(tmp_path, monkeypatch, **scripts)
    with pytest.raises(UserError, match=said):
        submit(sweep, store, PROFILE, Limits(), None)
    assert list((store.root / "submissions").iterdir()) == []


def test_jobs_that_never_start_are_replaced(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that SLURM gave up is cancelled and its runs are queued again."""
    first = seen(sweep, store).campaign
    assert first is not None
    first.write()
    line = f"7|7_0|0|PENDING|{first.name}-0||N/A|launch failed requeued held"
    stand_in(
        *(tmp_path, monkeypatch),
        squeue=f"echo '{line}'",
        scancel="",
        sbatch="echo Submitted batch job 17",
    )
    found, _ = submit(sweep, store, PROFILE, Limits(), None)
    assert counts(found) == (0, 7, 0)
    assert "scancel 7_0\n" in (tmp_path / "calls").read_text()


def test_a_limit_that_nobody_tells(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an array is refused for its size, as many jobs are queued as are taken."""
    small = "[ $(sed -n 's/.*--array=0-\\([0-9]*\\)%.*/\\1/p' \"$1\") -lt 2 ]"
    full = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, squeue="", sbatch=f"{small} || {{ {full}; }}\necho job 17")
    found, numbers = submit(sweep, store, PROFILE, Limits(), None)
    assert (numbers, counts(found)) == (["17"], (0, 4, 3))
    (kept,) = (store.root / "submissions").glob("*-*")
    assert Campaign.read(kept) == found.campaign

"""Whose claims are taken away; scripts stand in for the commands of SLURM."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import spec_of
from standing_in import stand_in

from paibench.benchmark.store import lease
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.slurm import job_state
from paibench.slurm.cleanup import ALIVE_SECONDS, release_dead_leases

SPEC = spec_of(density=0.5)
OURS, ELSEWHERE, NO_JOB = (f"{job}far.1.0123abcd" for job in ("j7.0-here.", "j7.0-elsewhere.", ""))
CONFIG = "echo 'ClusterName = here'"
UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
OLD = ALIVE_SECONDS + 10


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    job_state.own_cluster.cache_clear()
    yield Store.open(tmp_path / "store")
    job_state.own_cluster.cache_clear()


def claim(folder: Path, owner: str, age: float) -> Path:
    """A claim of a process on another machine that gave its last sign of life so long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as there:
        there.setattr(lease, "_place", lambda: "far/boot/7")
        assert lease.acquire(folder, owner)
    before = time.time() - age
    os.utime(folder / "claim", (before, before))
    return folder / "claim"


def claimed(store: Store, owner: str, age: float) -> Path:
    """A claim on the run, by an attempt that came to step 5."""
    attempt = store.attempt_folder(SPEC.key, owner)
    attempt.mkdir(parents=True)
    Progress(attempt, step=5, steps=10).save()
    return claim(store.run_folder(SPEC.key), owner, age)


@pytest.mark.parametrize(
    ("owner", "age", "squeue", "freed"),
    [
        (OURS, OLD, UNKNOWN, True),
        (OURS, OLD, "", True),
        (OURS, OLD, "echo 8; echo 77", True),
        (OURS, lease.LEASE_SECONDS + 10, UNKNOWN, True),
        (OURS, ALIVE_SECONDS - 10, UNKNOWN, False),
        (OURS, OLD, "echo 8; echo 7", False),
        (OURS, lease.LEASE_SECONDS + 10, "echo 7", False),
        (OURS, OLD, "echo 'Unable to contact slurm controller' >&2; exit 1", False),
        (ELSEWHERE, lease.LEASE_SECONDS + 10, UNKNOWN, False),
        (NO_JOB, lease.LEASE_SECONDS + 10, UNKNOWN, False),
    ],
    ids=["unknown", "no jobs", "other jobs", "over", "alive", "known", "over, but known", "silence"]
    + ["another cluster", "no job"],
)
def test_claims_of_jobs_that_are_gone(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    age: float,
    squeue: str,
    freed: bool,
) -> None:
    """A claim goes where the controller knows no such job of its own and nobody gave a sign of
    life for a minute; all else stays as it is."""
    stand_in(tmp_path, monkeypatch, squeue=squeue, sacct="", scontrol=CONFIG)
    path = claimed(store, owner, age)
    stage = claim(store.root / "stages/ab/abc/level01", owner, age)
    before = sorted(store.root.rglob("*"))
    found = release_dead_leases(store, [SPEC])
    assert found == ({SPEC.key: job_state.UNKNOWN_END} if freed else {})
    assert (path.exists(), stage.exists()) == (not freed, not freed)
    if not freed:
        assert sorted(store.root.rglob("*")) == before


def test_a_job_is_asked_for_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many claims of one job, the controller and accounting are asked once."""
    specs = [SPEC.model_copy(update={"seed": seed}) for seed in range(5)]
    stand_in(tmp_path, monkeypatch, squeue="", sacct="", scontrol=CONFIG)
    for spec in specs:
        claim(store.run_folder(spec.key), OURS, OLD)
    assert release_dead_leases(store, specs).keys() == {spec.key for spec in specs}
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert sorted(calls) == ["sacct", "scontrol", "squeue"]


@pytest.mark.parametrize(
    ("sacct", "cause", "failed"),
    [
        ("", "lost", False),
        ("exit 1", "lost", False),
        ("echo '7|7_0|RUNNING|0:0||1G|pai-0'", "lost", False),
        ("echo '8|7_1|OUT_OF_MEMORY|0:125||1G|pai-0'", "lost", False),
        ("echo '7|7_0|PENDING|0:0||1G|pai-0'", "requeued", False),
        ("echo '7|7_0|CANCELLED by 0|0:15||1G|pai-0'", "cancelled", False),
        ("echo '7|7_0|FAILED|9:0||1G|pai-0'", "killed", True),
    ],
    ids=["nothing yet", "silence", "still at work", "another job", "queued", "cancelled", "failed"],
)
def test_accounting_has_no_more_than_the_words(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sacct: str,
    cause: str,
    failed: bool,
) -> None:
    """It may be late and say nothing yet, or what was before: the run is free all the same, and is
    tried again."""
    stand_in(tmp_path, monkeypatch, squeue=UNKNOWN, sacct=sacct, scontrol=CONFIG)
    path = claimed(store, OURS, OLD)
    assert release_dead_leases(store, [SPEC])[SPEC.key].cause == cause
    assert not path.exists()
    (note,) = store.failures(SPEC.key)
    assert (note["cause"], note["attempt"], note["far"][0]) == (cause, OURS, 5)
    assert store.listing().failed == ({SPEC.key} if failed else set())
    assert not failed or not is_final(store, SPEC.key)


@pytest.mark.parametrize("state", ["FAILED|9:0", "COMPLETED|0:0", "CANCELLED|0:15"])
def test_accounting_is_not_asked_who_is_gone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """What it says of a job that the controller knows plays no part."""
    stand_in(
        tmp_path,
        monkeypatch,
        squeue="echo 7",
        sacct=f"echo '7|7_0|{state}||1G|pai-0'",
        scontrol=CONFIG,
    )
    path = claimed(store, OURS, OLD)
    assert release_dead_leases(store, [SPEC]) == {}
    assert path.exists()
    assert "sacct" not in (tmp_path / "calls").read_text()

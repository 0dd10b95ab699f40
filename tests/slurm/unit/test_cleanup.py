"""Release of the leases of dead jobs; scripts replace the commands of SLURM."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import spec_of
from fake_commands import calls, fake_commands, small_runs

from paibench.benchmark.store import lease
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.slurm import job_state
from paibench.slurm.cleanup import ALIVE_SECONDS, release_dead_leases

RUN = spec_of()
OURS, ELSEWHERE, NO_JOB = (f"{job}far.1.0123abcd" for job in ("j7.0-here.", "j7.0-elsewhere.", ""))
CONFIG = "echo 'ClusterName = here'"
UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
OLD = ALIVE_SECONDS + 10


@pytest.fixture
def store(store: Store) -> Iterator[Store]:
    job_state.cluster_name.cache_clear()
    yield store
    job_state.cluster_name.cache_clear()


def write_lease(folder: Path, owner: str, age: float) -> Path:
    """Write a lease of a process on another machine that was renewed `age` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "_process_namespace", lambda: "far/boot/7")
        assert lease.acquire(folder, owner)
    before = time.time() - age
    os.utime(folder / "claim", (before, before))
    return folder / "claim"


def lease_run(store: Store, owner: str, age: float) -> Path:
    """Write a lease on the run, of an attempt at step 5."""
    attempt = store.attempt_folder(RUN.key, owner)
    attempt.mkdir(parents=True)
    Progress(attempt, step=5, steps=10).save()
    return write_lease(store.run_folder(RUN.key), owner, age)


@pytest.mark.parametrize(
    ("owner", "age", "squeue", "released"),
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
def test_leases_of_dead_jobs(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    age: float,
    squeue: str,
    released: bool,
) -> None:
    """A lease is released if the controller does not know the job of its own cluster and the lease
    was not renewed for a minute; otherwise nothing changes."""
    fake_commands(tmp_path, monkeypatch, squeue=squeue, sacct="", scontrol=CONFIG)
    path = lease_run(store, owner, age)
    stage = write_lease(store.root / "stages/ab/abc/level01", owner, age)
    before = sorted(store.root.rglob("*"))
    ends = release_dead_leases(store, [RUN])
    assert ends == ({RUN.key: job_state.UNKNOWN_END} if released else {})
    assert (path.exists(), stage.exists()) == (not released, not released)
    if not released:
        assert sorted(store.root.rglob("*")) == before


def test_one_question_per_job(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For many leases of one job, the controller and accounting are asked once."""
    specs = small_runs(5)
    fake_commands(tmp_path, monkeypatch, squeue="", sacct="", scontrol=CONFIG)
    for spec in specs:
        write_lease(store.run_folder(spec.key), OURS, OLD)
    assert release_dead_leases(store, specs).keys() == {spec.key for spec in specs}
    for command in ("sacct", "scontrol", "squeue"):
        assert len(calls(tmp_path, command)) == 1


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
def test_accounting_only_explains(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sacct: str,
    cause: str,
    failed: bool,
) -> None:
    """Accounting may be late: a run is released and retried whatever it says."""
    fake_commands(tmp_path, monkeypatch, squeue=UNKNOWN, sacct=sacct, scontrol=CONFIG)
    path = lease_run(store, OURS, OLD)
    assert release_dead_leases(store, [RUN])[RUN.key].cause == cause
    assert not path.exists()
    (note,) = store.failures(RUN.key)
    assert (note["cause"], note["attempt"], note["far"][0]) == (cause, OURS, 5)
    assert store.listing().failed == ({RUN.key} if failed else set())
    assert not failed or not is_final(store, RUN.key)


@pytest.mark.parametrize("state", ["FAILED|9:0", "COMPLETED|0:0", "CANCELLED|0:15"])
def test_accounting_does_not_decide_who_is_gone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Accounting is not asked about a job that the controller knows."""
    fake_commands(
        tmp_path,
        monkeypatch,
        squeue="echo 7",
        sacct=f"echo '7|7_0|{state}||1G|pai-0'",
        scontrol=CONFIG,
    )
    path = lease_run(store, OURS, OLD)
    assert release_dead_leases(store, [RUN]) == {}
    assert path.exists()
    assert calls(tmp_path, "sacct") == []

"""Every way to end a job from outside, on a real cluster: finished work is kept."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cluster import Cluster
from cluster_sweep import (
    HALF,
    LONG,
    MOST_LOST,
    SEARCHING,
    SHORT,
    ClusterSweep,
    replace_command,
    spec_of,
)
from factories import PLUGINS

from paibench.methods.core import registry

HOSTILE = str(PLUGINS / "hostile")
LEVELS = spec_of({"name": "imp", "rate": 0.5}, density=0.25, recipe={"name": "lite", "epochs": 150})
"""IMP in two stages of some two seconds each."""
LEVEL_STEPS = 150 * 23
WORKER, JOB = "paibench.benchmark.execution.worker", "paibench.slurm.run_job"


def test_requeued(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A requeued job resumes at the saved step and finds its stages; the log of its first start
    stays."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, SEARCHING)
    sweep.submit()
    sweep.wait_for_progress(LONG)
    sweep.wait_for_progress(SEARCHING, step=0, stages=1)
    jobs = list(sweep.jobs())
    for job in jobs:
        quiet_cluster.run("scontrol", "requeue", job)
    sweep.wait_until(lambda: not sweep.processes(WORKER), 5)
    stages = {path: path.stat().st_ino for path in sweep.store.root.glob("stages/**/*.safetensors")}
    kept, found = sweep.progress(LONG).step, sweep.progress(SEARCHING).stages
    for job in jobs:
        sweep.start_now(job)
    sweep.wait_until(sweep.is_done)
    assert sweep.causes(LONG) == sweep.causes(SEARCHING) == ["requeued"]
    assert sweep.progress(LONG).begun == kept > 0
    assert found >= 1
    assert {path: path.stat().st_ino for path in stages} == stages
    logs = [log.read_text() for log in sweep.store.root.glob("submissions/*/logs/*.out")]
    assert all("ended with 1 runs unfinished" in log and "\ndone " in log for log in logs)
    sweep.check_records()
    print(f"requeue: steps repeated: {sweep.progress(LONG).begun - kept}; stages: 0 of {found}")


@pytest.mark.parametrize("options", [["--signal=TERM"], []], ids=["scancel-term", "scancel"])
def test_cancelled(quiet_cluster: Cluster, tmp_path: Path, options: list[str]) -> None:
    """A cancelled job is gone within 5 seconds; its run is saved and its lease released."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.wait_for_progress(LONG)
    quiet_cluster.run("scancel", *options, sweep.job())
    seconds = sweep.wait_until(lambda: not sweep.processes("paibench."), 5)
    assert sweep.causes(LONG) == ["cancelled"]
    assert not sweep.is_done()
    assert not (sweep.store.run_folder(LONG.key) / "claim").exists()
    kept = sweep.progress(LONG).step
    sweep.wait_until_no_jobs()
    sweep.finish()
    assert sweep.progress(LONG).begun == kept > 0
    sweep.check_records()
    print(f"scancel: gone after {seconds:.1f} s, steps repeated: 0")


def _kill(sweep: ClusterSweep, module: str) -> float:
    """Kill the process of LONG half-way; return the seconds of work that this costs."""
    sweep.wait_for_progress(LONG, HALF)
    time.sleep(0.2)  # what is to be seen is seen just after a save
    unsaved = sweep.seconds_since_save(LONG)
    (pid,) = sweep.processes(module)
    os.kill(pid, signal.SIGKILL)
    return unsaved


def test_worker_killed(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A killed worker is replaced and the job continues; the next submission resumes the run."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, SHORT, runs_per_job=2)
    sweep.submit()
    lost = _kill(sweep, WORKER)
    sweep.wait_until_no_jobs()
    kept = sweep.saved_step(LONG)
    assert sweep.is_done(SHORT)
    assert sweep.causes(LONG) == ["killed"]
    assert sweep.reason(LONG).startswith("its worker ended with signal SIGKILL")
    sweep.finish()
    assert sweep.progress(LONG).begun == kept > 0
    assert lost < MOST_LOST
    sweep.check_records()
    print(f"kill -9 of the worker: {lost:.2f} s of training lost")


def test_job_killed(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A killed job ends its worker; the next submission releases the lease and resumes the run."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.wait_for_progress(LONG)
    job = sweep.job()
    lost = _kill(sweep, JOB)
    sweep.wait_until(lambda: not sweep.processes(WORKER), 5)
    kept = sweep.saved_step(LONG)
    assert (sweep.store.run_folder(LONG.key) / "claim").exists()
    sweep.wait_until_no_jobs()
    sweep.wait_until(lambda: "FAILED" in quiet_cluster.run("sacct", "-nXj", job, "-o", "State"))
    assert sweep.submit()["queued"] == 1
    assert sweep.causes(LONG) == ["killed"]
    assert sweep.reason(LONG).startswith("its job failed")
    sweep.wait_until(sweep.is_done)
    assert sweep.progress(LONG).begun == kept > 0
    assert lost < MOST_LOST
    sweep.check_records()
    print(f"kill -9 of the job: {lost:.2f} s of training lost")


def test_killed_within_a_search(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A search that is killed while it trains a level resumes within that training."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LEVELS)
    sweep.submit()
    sweep.wait_for_progress(LEVELS, step=0, stages=1)
    sweep.wait_until(lambda: sweep.saved_search_step() > LEVEL_STEPS // 2)
    (pid,) = sweep.processes(WORKER)
    os.kill(pid, signal.SIGKILL)
    sweep.wait_until_no_jobs()
    finished = {path: path.stat().st_ino for path in sweep.store.root.glob("stages/*/*/*.safet*")}
    seen = [sweep.saved_search_step()]
    assert sweep.causes(LEVELS) == ["killed"]
    sweep.submit()

    def goes_on() -> bool:
        """Return whether the interrupted level is done; note the saved steps meanwhile."""
        if step := sweep.saved_search_step():  # none is left once the level is there
            seen.append(step)
        return len(list(sweep.store.root.glob("stages/*/*/*.safet*"))) > len(finished)

    sweep.wait_until(goes_on)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    sweep.wait_until(sweep.is_done)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert len(sweep.attempts(LEVELS)) == 2
    sweep.check_records()
    print(
        f"kill -9 within a level: at step {seen[0]} of {LEVEL_STEPS}, {len(finished)} stages kept"
    )


def test_started_twice(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A requeued job waits for its first start, even if the controller forgot it."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.wait_for_progress(LONG)
    (job,), (worker,) = sweep.processes(JOB), sweep.processes(WORKER)
    command, environment = _started_as(job)
    forgets = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
    environment |= {
        "SLURM_RESTART_COUNT": "1",
        "PATH": replace_command("squeue", tmp_path, forgets),
    }
    os.kill(worker, signal.SIGSTOP)
    twin = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    sweep.wait_until(lambda: len(sweep.processes(WORKER)) == 2)
    time.sleep(5)  # in which it would begin the run
    assert (twin.poll(), len(sweep.attempts(LONG))) == (None, 1)
    os.kill(worker, signal.SIGCONT)
    said, _ = twin.communicate(timeout=60)
    assert twin.returncode == 0
    assert said.startswith("1 runs, 0 already done\nalready ")
    assert len(sweep.attempts(LONG)) == 1
    assert sweep.causes(LONG) == []
    sweep.check_records()


def _started_as(pid: int) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a process."""
    command, environment = (
        Path(f"/proc/{pid}/{name}").read_text().rstrip("\0").split("\0")
        for name in ("cmdline", "environ")
    )
    return command, dict(entry.split("=", 1) for entry in environment)


def test_suspended(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """The run of a suspended job is neither queued again nor recorded as failed."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.wait_for_progress(LONG)
    quiet_cluster.run("scontrol", "suspend", sweep.job())
    sweep.wait_until(lambda: [state for state, _ in sweep.jobs().values()] == ["SUSPENDED"])
    facts = sweep.submit()
    assert (facts["under_way"], facts["queued"]) == (1, 0)
    quiet_cluster.run("scontrol", "resume", sweep.job())
    sweep.wait_until(sweep.is_done)
    assert len(sweep.attempts(LONG)) == 1
    assert sweep.causes(LONG) == []
    sweep.check_records()


def test_method_that_leaves(
    quiet_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that exits with status 0 has failed; the other runs of the job continue."""
    monkeypatch.setenv("PYTHONPATH", HOSTILE, prepend=os.pathsep)
    monkeypatch.syspath_prepend(HOSTILE)
    registry._entries.cache_clear()
    leaves = spec_of("leaves_at_once")
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, leaves, SHORT, runs_per_job=2)
    sweep.submit()
    sweep.wait_until_no_jobs()
    said = "its process ended with exit status 0, and handed nothing back"
    assert sweep.reason(leaves) == f"leaves_at_once (hostile 1.0): {said}"
    assert sweep.store.listing().failed == {leaves.key}
    facts = sweep.submit()
    assert (facts["done"], facts["failed"], facts["queued"]) == (1, 1, 0)
    registry._entries.cache_clear()

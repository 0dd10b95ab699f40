"""Every way in which a job is ended from outside, on a real cluster: nothing done is lost."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cluster import Cluster
from cluster_sweep import HALF, LONG, MOST_LOST, SEARCHING, SHORT, ClusterSweep, instead_of, spec_of
from factories import PLUGINS

from paibench.methods.core import registry

HOSTILE = str(PLUGINS / "hostile")
LEVELS = spec_of({"name": "imp", "rate": 0.5}, density=0.25, recipe={"name": "lite", "epochs": 150})
"""IMP in two stages of some two seconds each."""
LEVEL_STEPS = 150 * 23
WORKER, JOB = "paibench.benchmark.execution.worker", "paibench.slurm.run_job"


def test_requeued(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A job that is requeued goes on at the step it was kept at, and finds the stages that are
    there; its log of the first start is still there."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, SEARCHING)
    sweep.submit()
    sweep.until_at(LONG)
    sweep.until_at(SEARCHING, step=0, stages=1)
    jobs = list(sweep.jobs())
    for job in jobs:
        quiet_cluster.run("scontrol", "requeue", job)
    sweep.until(lambda: not sweep.processes(WORKER), 5)
    stages = {path: path.stat().st_ino for path in sweep.store.root.glob("stages/**/*.safetensors")}
    kept, found = sweep.headway(LONG).step, sweep.headway(SEARCHING).stages
    for job in jobs:
        sweep.hasten(job)
    sweep.until(sweep.is_done)
    assert sweep.causes(LONG) == sweep.causes(SEARCHING) == ["requeued"]
    assert sweep.headway(LONG).begun == kept > 0
    assert found >= 1
    assert {path: path.stat().st_ino for path in stages} == stages
    logs = [log.read_text() for log in sweep.store.root.glob("submissions/*/logs/*.out")]
    assert all("left with 1 runs unfinished" in log and "\ndone " in log for log in logs)
    sweep.check()
    print(f"requeue: steps repeated: {sweep.headway(LONG).begun - kept}; stages: 0 of {found}")


@pytest.mark.parametrize("options", [["--signal=TERM"], []], ids=["scancel-term", "scancel"])
def test_cancelled(quiet_cluster: Cluster, tmp_path: Path, options: list[str]) -> None:
    """A job that is cancelled is gone within 5 seconds, with its run kept and free for others."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.until_at(LONG)
    quiet_cluster.run("scancel", *options, sweep.job())
    seconds = sweep.until(lambda: not sweep.processes("paibench."), 5)
    assert sweep.causes(LONG) == ["cancelled"]
    assert not sweep.is_done()
    assert not (sweep.store.run_folder(LONG.key) / "claim").exists()
    kept = sweep.headway(LONG).step
    sweep.until_gone()
    sweep.finish()
    assert sweep.headway(LONG).begun == kept > 0
    sweep.check()
    print(f"scancel: gone after {seconds:.1f} s, steps repeated: 0")


def _kill(sweep: ClusterSweep, module: str) -> float:
    """SIGKILL the process that is at LONG, half-way; the seconds of work that this costs."""
    sweep.until_at(LONG, HALF)
    time.sleep(0.2)  # what is to be seen is seen just after a save
    unsaved = sweep.unsaved(LONG)
    (pid,) = sweep.processes(module)
    os.kill(pid, signal.SIGKILL)
    return unsaved


def test_worker_killed(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A worker that is killed is replaced, and the job goes on with its other runs; the run is
    noted, and resumed by the next submission from its last save, which was a moment ago."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, SHORT, runs_per_job=2)
    sweep.submit()
    lost = _kill(sweep, WORKER)
    sweep.until_gone()
    kept = sweep.saved(LONG)
    assert sweep.is_done(SHORT)
    assert sweep.causes(LONG) == ["killed"]
    assert sweep.reason(LONG).startswith("its worker ended with signal SIGKILL")
    sweep.finish()
    assert sweep.headway(LONG).begun == kept > 0
    assert lost < MOST_LOST
    sweep.check()
    print(f"kill -9 of the worker: {lost:.2f} s of training lost")


def test_job_killed(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A job whose own process is killed takes its worker along; what it held is free as soon as
    the controller says that it is gone, and its run is resumed from its last save."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.until_at(LONG)
    job = sweep.job()
    lost = _kill(sweep, JOB)
    sweep.until(lambda: not sweep.processes(WORKER), 5)
    kept = sweep.saved(LONG)
    assert (sweep.store.run_folder(LONG.key) / "claim").exists()
    sweep.until_gone()
    sweep.until(lambda: "FAILED" in quiet_cluster.run("sacct", "-nXj", job, "-o", "State"))
    assert sweep.submit()["queued"] == 1
    assert sweep.causes(LONG) == ["killed"]
    assert sweep.reason(LONG).startswith("its job failed")
    sweep.until(sweep.is_done)
    assert sweep.headway(LONG).begun == kept > 0
    assert lost < MOST_LOST
    sweep.check()
    print(f"kill -9 of the job: {lost:.2f} s of training lost")


def test_killed_within_a_search(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A search whose worker is killed while it trains a level goes on within that training: the
    levels before it are found, and no step is seen again that was before the last save."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LEVELS)
    sweep.submit()
    sweep.until_at(LEVELS, step=0, stages=1)
    sweep.until(lambda: sweep.searched() > LEVEL_STEPS // 2)
    (pid,) = sweep.processes(WORKER)
    os.kill(pid, signal.SIGKILL)
    sweep.until_gone()
    finished = {path: path.stat().st_ino for path in sweep.store.root.glob("stages/*/*/*.safet*")}
    seen = [sweep.searched()]
    assert sweep.causes(LEVELS) == ["killed"]
    sweep.submit()

    def goes_on() -> bool:
        """The level that was broken off is there; on the way to it, what is kept is seen."""
        if step := sweep.searched():  # none is left once the level is there
            seen.append(step)
        return len(list(sweep.store.root.glob("stages/*/*/*.safet*"))) > len(finished)

    sweep.until(goes_on)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    sweep.until(sweep.is_done)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert len(sweep.attempts(LEVELS)) == 2
    sweep.check()
    print(
        f"kill -9 within a level: at step {seen[0]} of {LEVEL_STEPS}, {len(finished)} stages kept"
    )


def test_started_twice(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A requeued job that starts while its first start is still at work waits for it and does
    nothing, even where the controller has forgotten the first."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.until_at(LONG)
    (job,), (worker,) = sweep.processes(JOB), sweep.processes(WORKER)
    command, environment = _started_as(job)
    forgets = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
    environment |= {"SLURM_RESTART_COUNT": "1", "PATH": instead_of("squeue", tmp_path, forgets)}
    os.kill(worker, signal.SIGSTOP)
    twin = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    sweep.until(lambda: len(sweep.processes(WORKER)) == 2)
    time.sleep(5)  # in which it would begin the run
    assert (twin.poll(), len(sweep.attempts(LONG))) == (None, 1)
    os.kill(worker, signal.SIGCONT)
    said, _ = twin.communicate(timeout=60)
    assert twin.returncode == 0
    assert said.startswith("1 runs, 0 already done\nalready ")
    assert len(sweep.attempts(LONG)) == 1
    assert sweep.causes(LONG) == []
    sweep.check()


def _started_as(pid: int) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that a process was started with."""
    command, environment = (
        Path(f"/proc/{pid}/{name}").read_text().rstrip("\0").split("\0")
        for name in ("cmdline", "environ")
    )
    return command, dict(entry.split("=", 1) for entry in environment)


def test_suspended(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A job that is suspended is not taken for ended: its run is neither queued again nor noted."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    sweep.submit()
    sweep.until_at(LONG)
    quiet_cluster.run("scontrol", "suspend", sweep.job())
    sweep.until(lambda: [state for state, _ in sweep.jobs().values()] == ["SUSPENDED"])
    facts = sweep.submit()
    assert (facts["under_way"], facts["queued"]) == (1, 0)
    quiet_cluster.run("scontrol", "resume", sweep.job())
    sweep.until(sweep.is_done)
    assert len(sweep.attempts(LONG)) == 1
    assert sweep.causes(LONG) == []
    sweep.check()


def test_method_that_leaves(
    quiet_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that ends its process as if all were well has failed; the job's other runs go on."""
    monkeypatch.setenv("PYTHONPATH", HOSTILE, prepend=os.pathsep)
    monkeypatch.syspath_prepend(HOSTILE)
    registry._entries.cache_clear()
    leaves = spec_of("leaves_at_once")
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, leaves, SHORT, runs_per_job=2)
    sweep.submit()
    sweep.until_gone()
    said = "its process ended with exit status 0, and handed nothing back"
    assert sweep.reason(leaves) == f"leaves_at_once (hostile 1.0): {said}"
    assert sweep.store.listing().failed == {leaves.key}
    facts = sweep.submit()
    assert (facts["done"], facts["failed"], facts["queued"]) == (1, 1, 0)
    registry._entries.cache_clear()

"""Lost nodes and time limits on a real cluster: work continues by itself."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from cluster_sweep import HALF, LONG, MOST_LOST, ClusterSweep, spec_of
from factories import PLUGINS

from paibench.slurm.job_state import MIN_SECONDS

pytestmark = pytest.mark.slow  # most of it is waiting
HOSTILE = str(PLUGINS / "hostile")
WORKER = "paibench.benchmark.execution.worker"
LONGER = spec_of(recipe={"name": "lite", "epochs": 5000})
"""Longer than a minute of training."""


@pytest.fixture
def training(quiet_cluster: Cluster, tmp_path: Path) -> Iterator[ClusterSweep]:
    """A long run in training, in the only job of its sweep, on node1."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, extra={"nodelist": "node1"})
    sweep.submit()
    sweep.wait_for_progress(LONG)
    yield sweep


def test_preempted(training: ClusterSweep) -> None:
    """A preempted job saves and waits to be killed, so that SLURM requeues and resumes it."""
    cluster = training.cluster
    job = training.job()
    high = ["--partition=high", "--nodelist=node1", "--exclusive", "--output=/dev/null"]
    cluster.run("sbatch", *high, "--wrap=sleep 2")
    training.wait_until(lambda: training.causes(LONG) == ["preempted"], 10)
    kept = training.progress(LONG).step
    training.wait_until(lambda: training.jobs().get(job, ("",))[0] == "PENDING", 30)
    training.start_now(job)
    training.wait_until(training.is_done)
    assert training.progress(LONG).begun == kept > 0
    assert training.causes(LONG) == ["preempted"]
    training.check_records()
    print(f"preempted: steps repeated: {training.progress(LONG).begun - kept}")


def test_node_set_down(training: ClusterSweep) -> None:
    """A job whose node is set down ends at once, is requeued, and resumes at the saved step."""
    job = training.job()
    training.cluster.set_down("node1")
    seconds = training.wait_until(lambda: not training.processes(WORKER), 5)
    training.cluster.resume("node1")
    kept = training.progress(LONG).step
    training.wait_until(
        lambda: training.is_done() or "held" in training.jobs().get(job, ("", ""))[1]
    )
    held = not training.is_done()
    training.wait_until(
        lambda: _well(training.cluster)
    )  # it is drained where the job came back too soon
    training.finish()
    assert training.causes(LONG) == ["node"]
    assert training.progress(LONG).begun == kept > 0
    assert len(training.attempts(LONG)) == 2
    training.check_records()  # where a job was held, it is there no more
    print(f"node set down: left after {seconds:.1f} s, held: {held}")


def _well(cluster: Cluster) -> bool:
    """Resume node1; return whether it takes jobs."""
    cluster.resume("node1")
    state = cluster.run("sinfo", "-h", "-n", "node1", "-p", "gpu", "-o", "%t").strip()
    return state in ("idle", "mix", "alloc")


def test_held(training: ClusterSweep) -> None:
    """A permanently held job is replaced by the next submission."""
    job = training.job()
    training.cluster.run("scontrol", "requeuehold", job)
    training.wait_until(lambda: training.jobs().get(job, ("",))[0] == "PENDING")
    assert training.submit()["queued"] == 1
    training.wait_until(training.is_done)
    assert training.causes(LONG) == ["requeued"]
    training.check_records()


def test_node_lost(training: ClusterSweep) -> None:
    """A lost node costs at most the work since the last save."""
    cluster = training.cluster
    job = training.job()
    training.wait_for_progress(LONG, HALF)
    lost = training.seconds_since_save(LONG)
    cluster.kill_node("node1")
    kept = training.saved_step(LONG)
    cluster.set_down("node1")
    cluster.start_node("node1")
    cluster.resume("node1")
    training.start_now(job)
    training.wait_until(lambda: training.is_done() or not training.jobs())
    training.finish()
    assert training.progress(LONG).begun == kept > 0
    assert len(training.attempts(LONG)) == 2
    assert lost < MOST_LOST
    training.check_records()
    print(f"node lost: {lost:.2f} s of training lost")


# -- time --------------------------------------------------------------------------------------


def test_warned(training: ClusterSweep) -> None:
    """A job that is warned of its time limit saves its run and requeues itself."""
    job = training.job()
    training.cluster.run("scancel", "--signal=USR2", job)
    training.wait_until(lambda: training.causes(LONG) == ["limit"], 10)
    kept = training.progress(LONG).step
    training.start_now(job)
    training.wait_until(training.is_done)
    assert training.progress(LONG).begun == kept > 0
    training.check_records()
    print(f"warned: steps repeated: {training.progress(LONG).begun - kept}")


def test_only_the_warned_job_is_left(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """The last job of an array, whose raw id is that of the array, requeues only itself."""
    other = LONG.model_copy(update={"seed": 1})
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, other)
    sweep.submit()
    sweep.wait_for_progress(LONG)
    sweep.wait_for_progress(other)
    last = max(sweep.jobs())
    quiet_cluster.run("scancel", "--signal=USR2", last)
    sweep.wait_until(lambda: sweep.causes(LONG) + sweep.causes(other) == ["limit"], 10)
    sweep.start_now(last)
    sweep.wait_until(sweep.is_done)
    assert sorted(len(sweep.attempts(spec)) for spec in sweep.specs) == [1, 2]
    sweep.check_records()


def test_stuck(quiet_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without progress between two time limits is not retried without --retry."""
    monkeypatch.setenv("PYTHONPATH", HOSTILE, prepend=os.pathsep)
    hangs = spec_of("hangs")
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, hangs)
    sweep.submit()
    for turn in (1, 2):
        sweep.wait_for_attempts(hangs, turn)
        job = sweep.job()
        time.sleep(MIN_SECONDS + 1)  # a shorter attempt does not count as stuck
        quiet_cluster.run("scancel", "--signal=USR2", job)
        sweep.wait_for_causes(hangs, turn)
        if turn == 1:
            sweep.start_now(job)
    assert sweep.causes(hangs) == ["limit", "stuck"]
    sweep.wait_until_no_jobs()
    facts = sweep.submit()
    assert (facts["failed"], facts["queued"]) == (1, 0)
    assert sweep.submit("--retry")["queued"] == 1


def test_true_time_limits(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A run that needs more time than its job has is finished by several jobs."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONGER, warning_seconds=20)
    sweep.submit()
    begun = [0]
    for _ in range(2):
        sweep.wait_for_progress(LONGER, step=begun[-1] + 1, attempts=len(begun))
        job = sweep.job()
        quiet_cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=1")
        sweep.wait_for_causes(LONGER, len(begun))
        begun.append(sweep.progress(LONGER).step)
        sweep.start_now(job)
        sweep.wait_for_attempts(LONGER, len(begun))
    quiet_cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=10")
    sweep.wait_until(sweep.is_done, 400)
    assert sweep.causes(LONGER) == ["limit", "limit"]
    assert [sweep.progress(LONGER, turn).begun for turn in range(3)] == begun
    sweep.check_records()
    print(f"two time limits: begun at {begun}")

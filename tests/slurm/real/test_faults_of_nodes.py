"""Nodes that are taken away, and time that is up, on a real cluster: work goes on by itself."""

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
def at_work(quiet_cluster: Cluster, tmp_path: Path) -> Iterator[ClusterSweep]:
    """A long run in training, in the only job of its sweep on node1."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, extra={"nodelist": "node1"})
    sweep.submit()
    sweep.until_at(LONG)
    yield sweep


def test_preempted(at_work: ClusterSweep) -> None:
    """A preempted job keeps its run and waits to be killed, so that SLURM requeues it; it goes on
    at the step that was kept, and nobody submits anything."""
    cluster = at_work.cluster
    job = at_work.job()
    high = ["--partition=high", "--nodelist=node1", "--exclusive", "--output=/dev/null"]
    cluster.run("sbatch", *high, "--wrap=sleep 2")
    at_work.until(lambda: at_work.causes(LONG) == ["preempted"], 10)
    kept = at_work.headway(LONG).step
    at_work.until(lambda: at_work.jobs().get(job, ("",))[0] == "PENDING", 30)
    at_work.hasten(job)
    at_work.until(at_work.is_done)
    assert at_work.headway(LONG).begun == kept > 0
    assert at_work.causes(LONG) == ["preempted"]
    at_work.check()
    print(f"preempted: steps repeated: {at_work.headway(LONG).begun - kept}")


def test_node_set_down(at_work: ClusterSweep) -> None:
    """A job whose node is set down leaves it at once and is requeued: it is not held for ever,
    and its run is gone on with once, at the step that was kept."""
    job = at_work.job()
    at_work.cluster.set_down("node1")
    seconds = at_work.until(lambda: not at_work.processes(WORKER), 5)
    at_work.cluster.resume("node1")
    kept = at_work.headway(LONG).step
    at_work.until(lambda: at_work.is_done() or "held" in at_work.jobs().get(job, ("", ""))[1])
    held = not at_work.is_done()
    at_work.until(lambda: _well(at_work.cluster))  # it is drained where the job came back too soon
    at_work.finish()
    assert at_work.causes(LONG) == ["node"]
    assert at_work.headway(LONG).begun == kept > 0
    assert len(at_work.attempts(LONG)) == 2
    at_work.check()  # where a job was held, it is there no more
    print(f"node set down: left after {seconds:.1f} s, held: {held}")


def _well(cluster: Cluster) -> bool:
    """Whether node1 takes jobs, which it is told to."""
    cluster.resume("node1")
    state = cluster.run("sinfo", "-h", "-n", "node1", "-p", "gpu", "-o", "%t").strip()
    return state in ("idle", "mix", "alloc")


def test_held(at_work: ClusterSweep) -> None:
    """A job that is held for ever is replaced by the next submission."""
    job = at_work.job()
    at_work.cluster.run("scontrol", "requeuehold", job)
    at_work.until(lambda: at_work.jobs().get(job, ("",))[0] == "PENDING")
    assert at_work.submit()["queued"] == 1
    at_work.until(at_work.is_done)
    assert at_work.causes(LONG) == ["requeued"]
    at_work.check()


def test_node_lost(at_work: ClusterSweep) -> None:
    """A node that is lost with all its processes costs at most the work since the last save."""
    cluster = at_work.cluster
    job = at_work.job()
    at_work.until_at(LONG, HALF)
    lost = at_work.unsaved(LONG)
    cluster.kill_node("node1")
    kept = at_work.saved(LONG)
    cluster.set_down("node1")
    cluster.start_node("node1")
    cluster.resume("node1")
    at_work.hasten(job)
    at_work.until(lambda: at_work.is_done() or not at_work.jobs())
    at_work.finish()
    assert at_work.headway(LONG).begun == kept > 0
    assert len(at_work.attempts(LONG)) == 2
    assert lost < MOST_LOST
    at_work.check()
    print(f"node lost: {lost:.2f} s of training lost")


# -- time --------------------------------------------------------------------------------------


def test_warned(at_work: ClusterSweep) -> None:
    """A job that is told that its time is nearly up keeps its run and queues itself again."""
    job = at_work.job()
    at_work.cluster.run("scancel", "--signal=USR2", job)
    at_work.until(lambda: at_work.causes(LONG) == ["limit"], 10)
    kept = at_work.headway(LONG).step
    at_work.hasten(job)
    at_work.until(at_work.is_done)
    assert at_work.headway(LONG).begun == kept > 0
    at_work.check()
    print(f"warned: steps repeated: {at_work.headway(LONG).begun - kept}")


def test_only_the_warned_job_is_left(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """The last job of an array, whose number is also that of the array, requeues itself alone."""
    other = LONG.model_copy(update={"seed": 1})
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, other)
    sweep.submit()
    sweep.until_at(LONG)
    sweep.until_at(other)
    last = max(sweep.jobs())
    quiet_cluster.run("scancel", "--signal=USR2", last)
    sweep.until(lambda: sweep.causes(LONG) + sweep.causes(other) == ["limit"], 10)
    sweep.hasten(last)
    sweep.until(sweep.is_done)
    assert sorted(len(sweep.attempts(spec)) for spec in sweep.specs) == [1, 2]
    sweep.check()


def test_stuck(quiet_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that two time limits in a row find at one step is left alone until it is asked for."""
    monkeypatch.setenv("PYTHONPATH", HOSTILE, prepend=os.pathsep)
    hangs = spec_of("hangs")
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, hangs)
    sweep.submit()
    for turn in (1, 2):
        sweep.until_attempts(hangs, turn)
        job = sweep.job()
        time.sleep(MIN_SECONDS + 1)  # a shorter attempt does not count as stuck
        quiet_cluster.run("scancel", "--signal=USR2", job)
        sweep.until_causes(hangs, turn)
        if turn == 1:
            sweep.hasten(job)
    assert sweep.causes(hangs) == ["limit", "stuck"]
    sweep.until_gone()
    facts = sweep.submit()
    assert (facts["failed"], facts["queued"]) == (1, 0)
    assert sweep.submit("--retry")["queued"] == 1


def test_true_time_limits(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A run that needs more time than its job has ends with the right record after some jobs."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONGER, warning_seconds=20)
    sweep.submit()
    begun = [0]
    for _ in range(2):
        sweep.until_at(LONGER, step=begun[-1] + 1, attempts=len(begun))
        job = sweep.job()
        quiet_cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=1")
        sweep.until_causes(LONGER, len(begun))
        begun.append(sweep.headway(LONGER).step)
        sweep.hasten(job)
        sweep.until_attempts(LONGER, len(begun))
    quiet_cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=10")
    sweep.until(sweep.is_done, 400)
    assert sweep.causes(LONGER) == ["limit", "limit"]
    assert [sweep.headway(LONGER, turn).begun for turn in range(3)] == begun
    sweep.check()
    print(f"two time limits: begun at {begun}")

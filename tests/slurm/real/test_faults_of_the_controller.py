"""An unavailable or forgetful controller on a real cluster: no run is lost or queued twice."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster
from cluster_sweep import LONG, SHORT, ClusterSweep, json_output, replace_command, spec_of

from paibench.slurm import submit

pytestmark = pytest.mark.slow  # most of it is waiting
Say = Callable[..., tuple[int, str, str]]
OTHER = spec_of("random")
TRIAL = 'case "$*" in *--test-only*) exec $real "$@";; esac; '
"""In place of sbatch: what is only tried out is not the matter here."""


def test_away_for_a_moment(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A submission waits for a controller that dies meanwhile, and queues the jobs once."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, SHORT)
    controller = " ".join(map(str, quiet_cluster.processes("slurmctld")))
    first = f"[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; kill -9 {controller}; }}; "
    path = replace_command("sbatch", tmp_path, TRIAL + first + 'exec $real "$@"')
    quiet_cluster.keep_state()  # or jobs of other tests come back to life
    start = time.monotonic()
    submitting = sweep.start(PATH=path)
    sweep.wait_until(lambda: not quiet_cluster.processes("slurmctld"))
    time.sleep(2)  # it is away for so long
    quiet_cluster.start_controller()
    assert len(json_output(submitting)["arrays"]) == 1
    seconds = time.monotonic() - start
    sweep.wait_until(sweep.is_done)
    assert len(sweep.attempts(SHORT)) == 1
    sweep.check_records()
    print(f"controller away for 2 s: queued once, after {seconds:.1f} s")


def test_not_there_at_all(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Without a controller, one line says so within two minutes, and nothing is left behind."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, SHORT)
    quiet_cluster.kill_controller()
    start = time.monotonic()
    submitting = sweep.start()
    _, err = submitting.communicate(timeout=120)
    seconds = time.monotonic() - start
    quiet_cluster.start_controller()
    assert submitting.returncode == 2
    assert len(err.splitlines()) == 1
    assert list(sweep.store.root.glob("submissions/*/manifest.json")) == []
    print(f"no controller: {seconds:.1f} s, {err.strip()}")


@pytest.mark.slow  # most of it is waiting
def test_sbatch_does_not_get_through(
    quiet_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """If only sbatch finds no controller, the submission fails and the next one queues all runs."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, SHORT, OTHER)
    (tmp_path / "etc").mkdir()
    astray = f"export SLURM_CONF={quiet_cluster.astray(tmp_path / 'etc')}; "
    tried = f"echo >> {tmp_path}/calls; "
    script = TRIAL + tried + astray + 'exec $real "$@"'
    with monkeypatch.context() as patch:
        patch.setattr(submit, "SEARCH_SECONDS", 1.0)
        patch.setenv("PATH", replace_command("sbatch", tmp_path, script))
        files = ["sweep.toml", "--profile", "profile.toml"]
        patch.chdir(tmp_path)
        status, out, err = say("submit", *files, "--out", "store")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "SLURM does not accept the jobs (3 attempts): " in err
    assert "submit again when `scontrol ping` says that the controller is up" in err
    assert (tmp_path / "calls").read_text() == 3 * "\n"
    assert list(sweep.store.root.glob("submissions/*")) == []
    assert sweep.jobs() == {}
    assert sweep.submit()["queued"] == 2
    sweep.wait_until(sweep.is_done)
    assert [len(sweep.attempts(spec)) for spec in sweep.specs] == [1, 1]
    sweep.check_records()


def test_gone_while_jobs_run(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Running jobs finish without controller and accounting."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG)
    quiet_cluster.kill_accounting()
    sweep.submit()
    sweep.wait_for_progress(LONG)
    quiet_cluster.kill_controller()
    sweep.wait_until(sweep.is_done)
    quiet_cluster.start_accounting()  # without which no controller starts
    quiet_cluster.start_controller()
    assert len(sweep.attempts(LONG)) == 1
    facts = sweep.submit()
    assert (facts["done"], facts["queued"]) == (1, 0)
    sweep.check_records()


def test_numbers_given_twice(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A controller that forgot jobs assigns their ids again; each sweep gets its own records."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    first = ClusterSweep.new(quiet_cluster, places[0], LONG)
    second = ClusterSweep.new(quiet_cluster, places[1], SHORT, OTHER)
    given = _forgotten(first, quiet_cluster, tmp_path)
    again = second.submit()["arrays"]
    assert given == again
    second.finish()  # a job that is started twice under one number is held, and replaced
    first.finish()
    first.check_records()
    second.check_records()
    print(f"numbers given: {given}, after the crash {again}")


def _forgotten(sweep: ClusterSweep, cluster: Cluster, folder: Path) -> list[str]:
    """Submit a sweep to a controller that dies before it saves the jobs; return their ids.

    The controller saves its state from time to time, and so may do it just before it dies.
    """
    for turn in range(5):
        controller = " ".join(map(str, cluster.processes("slurmctld")))
        crash = TRIAL + f'$real "$@"; status=$?; kill -9 {controller}; exit $status'
        place = folder / f"crash-{turn}"
        place.mkdir()
        cluster.keep_state()
        given: list[str] = sweep.submit(PATH=replace_command("sbatch", place, crash))["arrays"]
        cluster.start_controller()
        sweep.wait_until(lambda: not set("*k") & set(cluster.run("sinfo", "-h", "-o", "%t")))
        if not sweep.jobs():
            return given
        cluster.run("scancel", *given)
        sweep.wait_until_no_jobs()
    raise AssertionError("the controller forgot nothing")


def test_no_accounting(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Without accounting, a killed run is recorded and repeated, and `status` is right."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, LONG, SHORT)
    quiet_cluster.kill_accounting()
    sweep.submit()
    sweep.wait_for_progress(LONG)
    facts = sweep.status()
    assert (list(facts["running"]), facts["missing"], facts["failed"]) == ([LONG.key], 0, {})
    sweep.wait_until(lambda: sweep.is_done(SHORT))
    sweep.wait_until(lambda: len(sweep.processes("paibench.slurm.run_job")) == 1)
    (job,) = sweep.processes("paibench.slurm.run_job")
    os.kill(job, signal.SIGKILL)
    sweep.wait_until_no_jobs()
    facts = sweep.status()
    assert (facts["done"], facts["running"], facts["missing"]) == (1, {}, 1)
    assert sweep.submit()["queued"] == 1
    assert sweep.causes(LONG) == ["lost"]
    sweep.wait_until(sweep.is_done)
    facts = sweep.status()
    assert (facts["done"], facts["failed"], facts["queue_known"]) == (2, {}, True)
    quiet_cluster.start_accounting()
    sweep.check_records()


def test_what_is_done_is_in_the_store(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A job that is requeued after its end finds its records within 5 seconds, and makes no other.

    Meanwhile `status` shows the same with a `squeue` and a `sacct` that always fail.
    """
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, SHORT, OTHER, runs_per_job=2)
    (array,) = sweep.submit()["arrays"]
    sweep.wait_until(sweep.is_done)
    sweep.wait_until_no_jobs()
    made = [sweep.store.record_path(spec.key).stat().st_mtime_ns for spec in sweep.specs]
    blind = replace_command("squeue", tmp_path, "exit 1") + os.pathsep
    blind = f"{tmp_path}/replaced-sacct{os.pathsep}{blind}"
    replace_command("sacct", tmp_path, "exit 1")
    quiet_cluster.run("scontrol", "requeue", f"{array}_0")
    assert [state for state, _ in sweep.jobs().values()] == ["PENDING"]
    seeing = sweep.status()
    assert (seeing["done"], seeing["missing"], seeing["queue_known"]) == (2, 0, True)
    assert sweep.status(PATH=blind) == seeing | {"queue_known": False}
    facts = sweep.submit()
    assert (facts["done"], facts["queued"], facts["under_way"]) == (2, 0, 0)
    sweep.wait_until(lambda: "PENDING" not in (state for state, _ in sweep.jobs().values()))
    seconds = sweep.wait_until(lambda: not sweep.jobs(), 5)
    (log,) = sweep.store.root.glob("submissions/*/logs/*.out")
    assert log.read_text().endswith("\n2 runs, 2 already done\n")
    assert [len(sweep.attempts(spec)) for spec in sweep.specs] == [1, 1]
    again = [sweep.store.record_path(spec.key).stat().st_mtime_ns for spec in sweep.specs]
    assert again == made
    sweep.check_records()
    print(f"requeued after its end: gone again after {seconds:.1f} s")


@pytest.mark.parametrize("lost", ["reply", "submitter"])
def test_lost_on_the_way_back(quiet_cluster: Cluster, tmp_path: Path, lost: str) -> None:
    """Jobs that were accepted while their id or their submitter was lost are queued once."""
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, SHORT)
    timed_out = (
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    )
    ends = {"reply": f'echo "{timed_out}" >&2; exit 1', "submitter": "kill -9 $PPID"}
    script = TRIAL + f'echo >> {tmp_path}/calls; $real "$@" > /dev/null; {ends[lost]}'
    submitting = sweep.start(PATH=replace_command("sbatch", tmp_path, script))
    submitting.communicate(timeout=60)
    assert submitting.returncode == (0 if lost == "reply" else -9)
    facts = sweep.submit()
    assert facts["queued"] == 0
    sweep.wait_until(sweep.is_done)
    assert (tmp_path / "calls").read_text() == "\n"
    assert len(sweep.attempts(SHORT)) == 1
    sweep.check_records()

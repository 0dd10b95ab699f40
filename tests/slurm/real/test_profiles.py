"""Keys of a profile that change how a job executes its runs, on a real cluster."""

import sys
from pathlib import Path

import pytest
from cluster import Cluster
from cluster_sweep import SHORT, ClusterSweep, spec_of

RUN = {"container": 'exec "$@"', "python": f'exec {sys.executable} "$@"'}


@pytest.mark.parametrize("key", RUN)
def test_what_python_is_run_by(quiet_cluster: Cluster, tmp_path: Path, key: str) -> None:
    """The command of the profile starts the job, and the job makes the record."""
    own = tmp_path / "own"
    own.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/started\n{RUN[key]}\n')
    own.chmod(0o755)
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, SHORT, **{key: str(own)})
    sweep.submit()
    sweep.wait_until(sweep.is_done)
    (line,) = (tmp_path / "started").read_text().splitlines()
    python = f"{sys.executable} " if key == "container" else ""
    assert line.startswith(f"{python}-P -u -m paibench.slurm.run_job {tmp_path}/store/submissions/")
    sweep.check_records()


def test_two_at_a_time(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A job executes two runs at once if its profile says so."""
    two = [spec_of(seed=seed, recipe={"name": "lite", "epochs": 150}) for seed in (0, 1)]
    profile = {"cpus": 2, "runs_at_a_time": 2, "runs_per_job": 2, "memory": "3000M"}
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, *two, **profile)
    assert sweep.submit()["jobs"] == 1
    sweep.wait_until(lambda: len(list(sweep.store.root.glob("runs/*/*/claim"))) == 2)
    sweep.wait_until(sweep.is_done)
    assert [len(sweep.attempts(spec)) for spec in two] == [1, 1]
    sweep.check_records()

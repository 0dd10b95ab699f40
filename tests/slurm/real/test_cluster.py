"""The test cluster itself: its daemons start, fail, return and end as they should."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import LONGEST, Cluster, ClusterError
from configuration import Shape

COMMAND = Path(__file__).parents[1] / "support" / "cluster"


def submit(cluster: Cluster, output: Path, script: str, *options: str) -> str:
    """Submit a shell script; return the id of the job, whose tasks write to 0.txt, 1.txt, ..."""
    file = output / "script"
    file.write_text(f"#!/bin/sh\n{script}\n")
    to = ["--parsable", "--output", f"{output}/%a.txt"]
    return cluster.run("sbatch", *to, *options, str(file)).strip()


def queue(cluster: Cluster) -> list[str]:
    """Return the states of all tasks in the queue."""
    return cluster.run("squeue", "-h", "-r", "-o", "%T").split()


def accounted(cluster: Cluster, job: str) -> list[str]:
    """Return the states of a job's tasks according to accounting."""
    return cluster.run("sacct", "-n", "-X", "-P", "-j", job, "-o", "state").split()


def traces(folder: Path) -> list[Path]:
    """Return the processes with this folder in their command line, environment or open files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            texts = [(process / name).read_bytes() for name in ("cmdline", "environ")]
            opened = [os.readlink(entry) for entry in (process / "fd").iterdir()]
        except OSError:
            continue
        if os.fsencode(folder) in b"".join(texts) or any(str(folder) in name for name in opened):
            found.append(process)
    return found


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets; removed with the cluster in it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    yield folder
    Cluster(folder).down()
    shutil.rmtree(folder)


def test_its_nodes_are_idle(quiet_cluster: Cluster) -> None:
    """Both nodes are idle in all three partitions, with their CPUs, memory, GPUs and feature."""
    lines = quiet_cluster.run("sinfo", "-h", "-N", "-o", "%P %N %t %c %m %G %f %l").splitlines()
    limits = {"gpu*": "infinite", "high": "infinite", "short": "10:00"}
    assert sorted(lines) == sorted(
        f"{partition} {node} idle 8 8000 gpu:4 a100 {limit}"
        for partition, limit in limits.items()
        for node in ("node1", "node2")
    )


def test_an_array_spreads_over_the_nodes(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Four tasks with two GPUs each take both nodes, see their own devices, and are COMPLETED."""
    script = 'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"; sleep 1'
    options = ["--array=0-3", "--gres=gpu:2", "--constraint=a100"]
    job = submit(quiet_cluster, tmp_path, script, *options)
    quiet_cluster.wait("slurmdbd", lambda: accounted(quiet_cluster, job) == ["COMPLETED"] * 4)
    said = sorted((tmp_path / f"{index}.txt").read_text().strip() for index in range(4))
    assert said == ["node1 0,1", "node1 2,3", "node2 0,1", "node2 2,3"]


def test_a_node_set_down_loses_its_job_and_returns(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """The job of a node that is set down is requeued; the node is idle again when resumed."""
    submit(quiet_cluster, tmp_path, "sleep 60", "--nodelist=node1")
    quiet_cluster.wait("slurmctld", lambda: queue(quiet_cluster) == ["RUNNING"])
    quiet_cluster.set_down("node1")
    assert queue(quiet_cluster) == ["PENDING"]
    quiet_cluster.run("scancel", "--me")
    quiet_cluster.resume("node1")
    quiet_cluster.wait_idle()


def test_a_killed_node_returns(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A killed node loses all its processes, the other node none; it is idle when restarted."""
    for node in ("node1", "node2"):
        submit(quiet_cluster, tmp_path, "env -i sleep 60", f"--nodelist={node}")
    quiet_cluster.wait("slurmctld", lambda: queue(quiet_cluster) == ["RUNNING"] * 2)
    quiet_cluster.wait("slurmd-*", lambda: len(quiet_cluster.processes("job-*")) == 4)
    others = quiet_cluster.processes("slurmd-node2")
    quiet_cluster.kill_node("node1")
    assert quiet_cluster.processes("slurmd-node1") == set()
    assert quiet_cluster.processes("slurmd-node2") == others
    quiet_cluster.set_down("node1")
    quiet_cluster.start_node("node1")
    quiet_cluster.run("scancel", "--me")
    quiet_cluster.wait_idle()


def test_a_killed_controller_keeps_its_queue(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Jobs in the saved state of a controller are there when it is restarted."""
    submitted = time.time()
    submit(quiet_cluster, tmp_path, "true", "--hold", "--array=0-4")
    state = quiet_cluster.folder / "state/job_state"
    quiet_cluster.wait("slurmctld", lambda: state.stat().st_mtime > submitted)
    quiet_cluster.kill_controller()
    assert quiet_cluster.processes("slurmctld") == set()
    quiet_cluster.start_controller()
    assert queue(quiet_cluster) == ["PENDING"] * 5


def test_accounting_catches_up(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """A job that ran while slurmdbd was dead is COMPLETED when slurmdbd is restarted."""
    quiet_cluster.kill_accounting()
    job = submit(quiet_cluster, tmp_path, "true")
    quiet_cluster.wait_idle()
    with pytest.raises(ClusterError, match="sacct"):
        accounted(quiet_cluster, job)
    quiet_cluster.start_accounting()
    quiet_cluster.wait("slurmdbd", lambda: accounted(quiet_cluster, job) == ["COMPLETED"])


def test_limits_hold_for_us(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """MaxSubmitJobs of the user's association is enforced, also for root."""
    account = ["sacctmgr", "-i", "modify", "account", "test", "set"]
    quiet_cluster.run(*account, "MaxSubmitJobs=2")
    try:
        with pytest.raises(ClusterError, match="AssocMaxSubmitJobLimit"):
            submit(quiet_cluster, tmp_path, "true", "--array=0-2")
    finally:
        quiet_cluster.run(*account, "MaxSubmitJobs=-1")
    assert queue(quiet_cluster) == []


def test_a_second_cluster_lives_beside_it_and_goes(
    quiet_cluster: Cluster, short_folder: Path, tmp_path: Path
) -> None:
    """`up` and `down` manage a second cluster and do not touch the first."""
    started = time.monotonic()
    printed = subprocess.check_output([COMMAND, "up", short_folder], text=True)
    assert time.monotonic() - started < 20
    assert printed == f"export SLURM_CONF={short_folder}/etc/slurm.conf\n"
    second = Cluster(short_folder)
    submit(second, tmp_path, "env -i sleep 60")
    second.wait("slurmctld", lambda: queue(second) == ["RUNNING"])
    second.wait("slurmd-node1", lambda: len(second.processes("job-*")) == 2)
    assert queue(quiet_cluster) == []
    every, first = second.processes(), quiet_cluster.processes()
    assert traces(short_folder) and not every & first
    subprocess.check_call([COMMAND, "down", short_folder])
    assert traces(short_folder) == []
    assert not [pid for pid in every if _alive(pid)]
    assert quiet_cluster.processes() == first
    quiet_cluster.wait_idle()


def _alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("x" * LONGEST, "a plain path of at most", id="too long for sockets"),
        pytest.param("a b", "a plain path of at most", id="a blank in it"),
        pytest.param("", "is not empty", id="not empty"),
    ],
)
def test_a_folder_that_cannot_work_is_refused(short_folder: Path, name: str, message: str) -> None:
    """One line says what is wrong with the folder, and nothing is started."""
    (short_folder / "file").touch()
    asked = [str(COMMAND), "up", str(short_folder / name)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert message in done.stderr
    assert traces(short_folder) == []


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(short_folder: Path) -> None:
    """The error contains the log of slurmctld; no process stays."""
    wrong = Shape(settings={"SelectType": "select/nonsense"})
    with pytest.raises(ClusterError, match="select/nonsense"):
        Cluster(short_folder, wrong).up()
    assert traces(short_folder) == []

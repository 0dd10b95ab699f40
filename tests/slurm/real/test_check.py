"""Checks of profiles, and limits, on a real cluster."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster

from paibench.slurm.cluster import limits, nodes, partitions, problems
from paibench.slurm.profile import Profile


def found(**keys: Any) -> list[str]:
    """Return the problems of a small profile with these keys."""
    return problems(Profile(name="a", **{"memory": "1G", **keys}))


def scontrol(*command: str) -> str:
    return subprocess.run(["scontrol", *command], check=True, capture_output=True, text=True).stdout


def test_the_cluster_is_seen(quiet_cluster: Cluster) -> None:
    """Partitions have their limits, nodes all their resources."""
    assert {name: (it.default, it.max_minutes) for name, it in partitions().items()} == {
        "gpu": (True, None),
        "high": (False, None),
        "short": (False, 10),
    }
    assert [node.name for node in nodes() if "short" in node.partitions] == ["node1", "node2"]
    for node in nodes():
        assert (node.cpus, node.memory_mb, sum(node.gpus.values())) == (8, 8000, 4)
        assert node.features == {"a100"}
        assert node.up


def test_the_limits_are_those_of_the_controller(cluster: Cluster) -> None:
    """Limits are those of `scontrol show config`."""
    found = limits(Profile(name="a"))
    shown = scontrol("show", "config").splitlines()
    values = dict(line.replace(" ", "").split("=", 1) for line in shown if line.startswith("Max"))
    assert found.max_array_size == int(values["MaxArraySize"])
    assert found.max_jobs == int(values["MaxJobCount"])


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"partition": "gpu", "gpus": 4, "cpus": 8, "memory": 8000, "constraint": "a100"},
        {"partition": "short", "time": 10},
        {"partition": "short,high"},
        {"account": "root", "qos": "normal"},
        {"extra": {"comment": "it's (a) test", "exclusive": True, "nice": 5}},
    ],
    ids=["small", "whole node", "short", "one of two", "account", "extra"],
)
def test_what_the_cluster_can_do(quiet_cluster: Cluster, keys: dict[str, Any]) -> None:
    """There are no problems, and no job is left in the queue."""
    assert found(**keys) == []
    assert subprocess.check_output(["squeue", "-h"]) == b""


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"partition": "shirt"}, "partition: the cluster has no shirt; did you mean short?"),
        ({"partition": "short"}, "time: 4:00:00 is 240 minutes, short allows 10; "),
        ({"gpus": 5}, "gpus: 5 is more than any node of gpu has; the largest has 4"),
        ({"memory": "8G"}, "memory: 8192 MB is more than any node of gpu has; the largest has 80"),
        ({"gpus": 1, "gpu_type": "h100"}, "gpu_type: no node of gpu has h100; "),
        ({"constraint": "a10"}, "constraint: no node has the feature a10; did you mean a100?"),
        ({"account": "rot"}, "account: rot is not one that you can use; did you mean root?"),
        ({"qos": "norml"}, "qos: the cluster has no norml; did you mean normal?"),
        (
            {"extra": {"begin": "soon"}},
            "sbatch refuses such a job: Invalid time specification (pos=0): soon Invalid --begin "
            "specification; change the profile, or wait for its nodes",
        ),
        (
            {"extra": {"foo": 1}},
            "sbatch refuses such a job: unrecognized option '--foo=1' Try ",
        ),
    ],
    ids=["partition", "time", "gpus", "memory", "type", "feature", "account", "qos", "begin"]
    + ["option"],
)
def test_what_the_cluster_cannot_do(
    quiet_cluster: Cluster, keys: dict[str, Any], said: str
) -> None:
    """One line names what is too much, or gives the message of sbatch."""
    (line,) = found(**keys)
    assert line.startswith(said)
    assert line.isprintable()


def test_nodes_that_are_drained(quiet_cluster: Cluster) -> None:
    """It is a problem if all nodes are drained, but not if one is up."""
    try:
        scontrol("update", "nodename=node1", "state=drain", "reason=test")
        assert found() == []
        scontrol("update", "nodename=node2", "state=drain", "reason=test")
        (line,) = found()
    finally:
        scontrol("update", "nodename=node1,node2", "state=resume")
    assert line.startswith("partition: no node of gpu that fits takes jobs (node1 IDLE+DRAIN")


def test_a_partition_that_is_down(quiet_cluster: Cluster) -> None:
    """A partition that is down is a problem: jobs would never start."""
    try:
        scontrol("update", "partition=high", "state=down")
        assert found(partition="high") == ["partition: high is DOWN; choose another or wait"]
    finally:
        scontrol("update", "partition=high", "state=up")


def test_a_controller_that_is_not_there(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unavailable controller is reported in SLURM's words, and nothing else is checked."""
    monkeypatch.setenv("SLURM_CONF", cluster.astray(tmp_path))
    (line,) = found()
    assert line.startswith("the controller of SLURM does not answer: Slurmctld(primary) at ")
    assert line.endswith("; try again, or ask an administrator")

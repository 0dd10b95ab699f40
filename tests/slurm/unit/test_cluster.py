"""Limits of a cluster, and mismatches between a profile and its partitions and nodes."""

from typing import Any

import pytest

from paibench.slurm.cluster import (
    Limits,
    Node,
    Partition,
    limits,
    max_submit,
    mismatches,
    parse_config,
    parse_gpus,
    parse_nodes,
    parse_partitions,
    problems,
    slots,
)
from paibench.slurm.profile import Profile

PARTITIONS = (
    "PartitionName=gpu AllowGroups=ALL Default=YES QoS=N/A DefaultTime=NONE MaxTime=UNLIMITED "
    "Nodes=node[1-2] PreemptMode=REQUEUE State=UP TRES=cpu=16,mem=16000M,node=2,gres/gpu=8\n"
    "PartitionName=short AllowGroups=ALL Default=NO MaxTime=00:10:00 Nodes=node1 State=DOWN\n"
    "PartitionName=long Default=NO MaxTime=7-00:00:00 Nodes=(null) State=DRAIN\n"
)
NODES = (
    "NodeName=node1 Arch=x86_64 CPUAlloc=0 CPUEfctv=6 CPUTot=8 AvailableFeatures=a100,nvlink "
    "ActiveFeatures=a100 Gres=gpu:a100:4(S:0-1),shard:8 OS=Linux 6.1 #1 SMP  RealMemory=8000 "
    "State=IDLE+DRAIN ThreadsPerCore=1 Partitions=gpu,short  CfgTRES=cpu=8 Reason=Gres=gpu:9 x\n"
    "NodeName=node2 CPUTot=4 AvailableFeatures=(null) Gres=(null) RealMemory=500 State=MIXED "
    "Partitions=gpu\n"
    "NodeName=node3 CPUTot=4 RealMemory=500 State=DOWN*\n"
)


def node(state: str) -> Node:
    return Node("node1", 1, 1, {}, frozenset(), state, frozenset())


def test_parse_partitions() -> None:
    """A partition has a name, a state and a time limit in minutes; one is the default."""
    assert parse_partitions(PARTITIONS) == {
        "gpu": Partition("gpu", "UP", True, None),
        "short": Partition("short", "DOWN", False, 10),
        "long": Partition("long", "DRAIN", False, 10_080),
    }


def test_parse_nodes() -> None:
    """Nodes are parsed; a remark of the administrator changes nothing."""
    assert parse_nodes(NODES) == [
        Node(
            name="node1",
            cpus=6,
            memory_mb=8000,
            gpus={"a100": 4},
            features=frozenset({"a100", "nvlink"}),
            state="IDLE+DRAIN",
            partitions=frozenset({"gpu", "short"}),
        ),
        Node("node2", 4, 500, {}, frozenset(), "MIXED", frozenset({"gpu"})),
        Node("node3", 4, 500, {}, frozenset(), "DOWN*", frozenset()),
    ]


@pytest.mark.parametrize("text", ["", "\n", "No partitions in the system\n"])
def test_no_answer(text: str) -> None:
    """Without useful output, nothing is known."""
    assert parse_partitions(text) == {}
    assert parse_nodes(text) == []
    assert parse_config(text) == {}


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:4", {"": 4}),
        ("gpu", {"": 1}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100:2(S:0,2),gpu:v100:1,gpu:a100:1", {"a100": 3, "v100": 1}),
        ("gpu:1g.5gb:7", {"1g.5gb": 7}),
        ("gpu:tesla", {"tesla": 1}),
        ("shard:8,craynetwork:4", {}),
        ("(null)", {}),
        ("", {}),
    ],
)
def test_parse_gpus(gres: str, gpus: dict[str, int]) -> None:
    """Types and counts are optional; sockets are ignored."""
    assert parse_gpus(gres) == gpus


@pytest.mark.parametrize(
    ("state", "up"),
    [
        ("IDLE", True),
        ("ALLOCATED", True),
        ("MIXED+PLANNED", True),
        ("IDLE+CLOUD+POWERED_DOWN", True),
        ("IDLE+POWERING_DOWN", True),
        ("DOWN", False),
        ("DOWN*", False),
        ("IDLE+DRAIN", False),
        ("MIXED+DRAIN", False),
        ("DRAINED", False),
        ("DOWN+DRAIN+POWERED_DOWN", False),
        ("FAIL", False),
    ],
)
def test_nodes_that_take_jobs(state: str, up: bool) -> None:
    """Busy and sleeping nodes take jobs later; nodes that are down or drained do not."""
    assert node(state).up is up


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"memory": "100M"}, 4),
        ({"memory": "100M", "cpus": 3}, 1),
        ({"memory": "200M"}, 2),
        ({"memory": "100M", "partition": "short"}, 0),
        ({"memory": "100M", "gpus": 1}, 0),
    ],
    ids=["one a core", "cores are scarce", "memory is scarce", "drained", "no gpus"],
)
def test_slots(keys: dict[str, Any], count: int) -> None:
    """Slots are counted on the nodes of the partition that take jobs."""
    known, machines = parse_partitions(PARTITIONS), parse_nodes(NODES)
    assert slots(Profile(name="a", **keys), known, machines) == count


def test_parse_config() -> None:
    """Lines with a value are kept, headings are not."""
    text = "Configuration data as of now\nMaxArraySize            = 51\nA = b = c\n\nEmpty =\n"
    assert parse_config(text) == {"MaxArraySize": "51", "A": "b = c", "Empty": ""}


@pytest.mark.parametrize(
    ("keys", "associations", "qos", "expected"),
    [
        ({}, "", "", None),
        ({}, "lab||||normal\n", "normal|||\n", None),
        ({}, "lab||100|50|normal\n", "normal||80|\n", 50),
        ({}, "lab||100||normal\n", "normal|20|80|\nlong|5||\n", 20),
        ({"qos": "long"}, "lab||100||normal\n", "normal|20|80|\nlong||60|\n", 60),
        ({"account": "Lab"}, "lab||100||\nother||7||\n", "", 100),
        ({}, "lab|gpu|9||\nlab||100||\n", "", 100),
        ({"partition": "gpu"}, "lab|gpu|9||\nlab||100||\n", "", 9),
        ({}, "lab||-1||\nan error\n", "a|b\n", None),
    ],
    ids=["silent", "none", "group", "default QOS", "named QOS", "account", "other partition"]
    + ["partition", "nonsense"],
)
def test_max_submit(
    keys: dict[str, str], associations: str, qos: str, expected: int | None
) -> None:
    """The lowest limit counts that applies to the account, partition and QOS of a profile."""
    assert max_submit(Profile(name="a", **keys), associations, qos) == expected  # type: ignore[arg-type]


def test_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer, SLURM's own defaults are used."""
    monkeypatch.setenv("PATH", "")
    assert limits(Profile(name="a")) == Limits(1001, 10_000, None)


# -- mismatches ------------------------------------------------------------------------------------

KNOWN = {
    "gpu": Partition("gpu", "UP", True, None),
    "short": Partition("short", "UP", False, 10),
    "closed": Partition("closed", "DOWN", False, None),
    "broken": Partition("broken", "UP", False, None),
    "empty": Partition("empty", "UP", False, None),
}
EVERY = frozenset({"gpu", "short", "closed"})
MACHINES = [
    Node("many", 64, 16_000, {}, frozenset({"big"}), "IDLE", EVERY),
    Node("fast", 8, 8_000, {"a100": 4, "v100": 1}, frozenset({"a100"}), "IDLE", EVERY),
    Node("gone", 8, 8_000, {"": 2}, frozenset(), "DOWN*", frozenset({"broken"})),
]


def mismatches_of(**keys: Any) -> list[str]:
    """Return the mismatches of a small profile with these keys."""
    return mismatches(Profile(name="a", **{"memory": "1G", **keys}), KNOWN, MACHINES)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"cpus": 64, "memory": 16_000},
        {"cpus": 8, "memory": 8_000, "gpus": 5},
        {"gpus": 4, "gpu_type": "a100", "constraint": "a100"},
        {"constraint": "[big*2&a100]|a100"},
        {"partition": "short", "time": 10},
        {"partition": "short,gpu"},
    ],
    ids=["small", "most cpus", "most gpus", "type", "expression", "time", "one of two"],
)
def test_a_profile_that_fits(keys: dict[str, Any]) -> None:
    """One node of one partition has all that is asked."""
    assert mismatches_of(**keys) == []


@pytest.mark.parametrize(
    ("keys", "messages"),
    [
        (
            {"partition": "shirt"},
            ["partition: the cluster has no shirt; did you mean short?"],
        ),
        (
            {"partition": "gpu,other"},
            ["partition: the cluster has no other; known: broken, closed, empty, gpu, short"],
        ),
        ({"partition": "closed"}, ["partition: closed is DOWN; choose another or wait"]),
        (
            {"partition": "broken"},
            [
                "partition: no node of broken that fits takes jobs (gone DOWN*); wait or ask "
                "an administrator"
            ],
        ),
        (
            {"partition": "empty"},
            [
                "cpus: 1 is more than any node of empty has; the largest has 0",
                "memory: 1024 MB is more than any node of empty has; the largest has 0 MB",
            ],
        ),
        (
            {"partition": "short", "time": "10:01"},
            [
                "time: 10:01 is 11 minutes, short allows 10; ask for less time or choose another "
                "partition"
            ],
        ),
        (
            {"partition": "short,closed", "time": "10"},
            [],
        ),
        (
            {"gpus": 6, "cpus": 65, "memory": "1T"},
            [
                "gpus: 6 is more than any node of gpu has; the largest has 5",
                "cpus: 65 is more than any node of gpu has; the largest has 64",
                "memory: 1048576 MB is more than any node of gpu has; the largest has 16000 MB",
            ],
        ),
        (
            {"gpus": 2, "gpu_type": "v100"},
            ["gpus: 2 is more than any node of gpu has; the largest has 1"],
        ),
        (
            {"gpus": 1, "gpu_type": "a10"},
            ["gpu_type: no node of gpu has a10; did you mean a100?"],
        ),
        (
            {"gpus": 1, "gpu_type": "a100", "partition": "broken"},
            ["gpu_type: no node of broken has a100; remove it, GPUs have no types"],
        ),
        (
            {"gpus": 1, "cpus": 9},
            ["no node of gpu has 9 cpus, 1024 MB, 1 gpus together; ask for less of one"],
        ),
        (
            {"cpus": 9, "constraint": "a100"},
            [
                "no node of gpu has 9 cpus, 1024 MB, the constraint a100 together; "
                "ask for less of one"
            ],
        ),
        (
            {"constraint": "a100&(nvlink|bigg)"},
            [
                "constraint: no node has the feature nvlink; known: a100, big",
                "constraint: no node has the feature bigg; did you mean big?",
            ],
        ),
    ],
    ids=["partition", "one of two", "down", "nodes down", "no nodes", "time", "one will do"]
    + ["too much", "of a type", "type", "no types", "together", "with feature", "features"],
)
def test_mismatches(keys: dict[str, Any], messages: list[str]) -> None:
    """Every line names the key, what the cluster has, and what to do."""
    assert mismatches_of(**keys) == messages


def test_an_unknown_cluster() -> None:
    """Without a list of partitions, only sbatch can judge."""
    assert mismatches(Profile(name="a", partition="x"), {}, []) == []


def test_a_machine_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing commands are the only problem that is reported."""
    monkeypatch.setenv("PATH", "")
    assert problems(Profile(name="a")) == [
        "sbatch and squeue are not on PATH; use a machine that can submit to a cluster"
    ]

"""What a profile asks that partitions and nodes do not have; no cluster is asked."""

from typing import Any

import pytest

from paibench.slurm.check import misfits, problems
from paibench.slurm.limits import Node, Partition
from paibench.slurm.profile import Profile

PARTITIONS = {
    "gpu": Partition("gpu", "UP", True, None),
    "short": Partition("short", "UP", False, 10),
    "closed": Partition("closed", "DOWN", False, None),
    "broken": Partition("broken", "UP", False, None),
    "empty": Partition("empty", "UP", False, None),
}
EVERY = frozenset({"gpu", "short", "closed"})
NODES = [
    Node("many", 64, 16_000, {}, frozenset({"big"}), "IDLE", EVERY),
    Node("fast", 8, 8_000, {"a100": 4, "v100": 1}, frozenset({"a100"}), "IDLE", EVERY),
    Node("gone", 8, 8_000, {"": 2}, frozenset(), "DOWN*", frozenset({"broken"})),
]


def found(**keys: Any) -> list[str]:
    """What does not fit of a small profile with these keys."""
    return misfits(Profile(name="a", **{"memory": "1G", **keys}), PARTITIONS, NODES)


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
def test_what_fits(keys: dict[str, Any]) -> None:
    """One node of one partition has it all."""
    assert found(**keys) == []


@pytest.mark.parametrize(
    ("keys", "said"),
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
            ["partition: no node of broken that fits takes jobs (gone DOWN*); wait or ask why"],
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
def test_what_does_not_fit(keys: dict[str, Any], said: list[str]) -> None:
    """Every line says which key, what there is, and what to do."""
    assert found(**keys) == said


def test_nothing_is_said_of_an_unknown_cluster() -> None:
    """Where the list of partitions did not come, sbatch is to judge."""
    assert misfits(Profile(name="a", partition="x"), {}, []) == []


def test_a_machine_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said first, and nothing else."""
    monkeypatch.setenv("PATH", "")
    assert problems(Profile(name="a")) == [
        "sbatch and squeue are not on PATH; go to a machine that submits to a cluster"
    ]

"""The configuration of a test cluster: slurm.conf and its companions."""

import os
import pwd
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
"""What stands for the GPUs of a node: SLURM wants files that are there."""

_PARTITIONS = """\
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 GraceTime=10
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL PriorityTier=1 GraceTime=10 MaxTime=10
"""


@dataclass(frozen=True)
class Shape:
    """The size of a cluster per node (memory in MB), and its time-outs in seconds.

    `settings` are further lines of slurm.conf, or replace lines. Raises ValueError for more GPUs
    than DEVICES.
    """

    nodes: int = 2
    cpus: int = 8
    memory: int = 8000
    gpus: int = 4
    max_array_size: int = 51
    kill_wait: int = 5
    slurmd_timeout: int = 10
    over_memory_kill: bool = True
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.gpus > len(DEVICES):
            raise ValueError(f"gpus={self.gpus}: a node has at most {len(DEVICES)}")

    @property
    def node_names(self) -> list[str]:
        """node1, node2, ..."""
        return [f"node{number}" for number in range(1, self.nodes + 1)]


def write_configuration(folder: Path, shape: Shape) -> None:
    """Create the cluster's folders, choose its ports and write the files that its daemons read."""
    for name in ("etc", "log", "run", "munge", "database", "state"):
        (folder / name).mkdir(parents=True)
    for name in shape.node_names:
        (folder / "spool" / name).mkdir(parents=True)
    controller, accounting, *nodes = _free_ports(2 + shape.nodes)
    settings = _daemons(folder, controller, accounting) | _jobs(shape)
    # a requeued job waits this long, and no shorter than its old processes may live
    expire = max(5, shape.kill_wait + 1)
    settings |= {"AuthInfo": f"socket={folder}/run/munge,cred_expire={expire}"}
    settings |= shape.settings
    gpus = [
        f"NodeName={name} Name=gpu File={device}\n"
        for name in shape.node_names
        for device in DEVICES[: shape.gpus]
    ]
    etc = folder / "etc"
    (etc / "slurm.conf").write_text(_lines(settings) + _nodes(shape, nodes) + _PARTITIONS)
    (etc / "gres.conf").write_text("".join(gpus))
    # slurmd 22.05 wants a mounted file system here even where it uses no cgroup
    (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupMountpoint=/dev/shm\n")
    (etc / "slurmdbd.conf").touch(0o600)
    (etc / "slurmdbd.conf").write_text(_lines(_accounting(folder, accounting)))


def user() -> str:
    """Return the name of the user, who owns the cluster."""
    return pwd.getpwuid(os.getuid()).pw_name


def _daemons(folder: Path, controller: int, accounting: int) -> dict[str, object]:
    return {
        "ClusterName": "test",
        "SlurmctldHost": f"{_host()}(127.0.0.1)",  # with the address: the name may not resolve
        "SlurmctldPort": controller,
        "SlurmctldTimeout": 10,
        "SlurmctldPidFile": folder / "run/slurmctld.pid",
        "SlurmctldLogFile": folder / "log/slurmctld.log",
        "StateSaveLocation": folder / "state",
        "SlurmUser": user(),
        "SlurmdUser": user(),
        "SlurmdPidFile": folder / "run/slurmd-%n.pid",
        "SlurmdLogFile": folder / "log/slurmd-%n.log",
        "SlurmdSpoolDir": folder / "spool/%n",
        "SlurmdParameters": "config_overrides",  # nodes may be larger than this machine
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "MailProg": "/bin/true",
        "AuthType": "auth/munge",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": accounting,
        "AccountingStoragePass": folder / "run/munge",  # AuthInfo is not enough for slurmdbd
        "AccountingStorageTRES": "gres/gpu",
        "AccountingStorageEnforce": "limits",
    }


def _jobs(shape: Shape) -> dict[str, object]:
    return {
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "DefMemPerCPU": shape.memory // shape.cpus,
        "GresTypes": "gpu",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "task=1",
        "JobAcctGatherParams": "OverMemoryKill" if shape.over_memory_kill else "NoOverMemoryKill",
        "JobRequeue": 1,
        "KillWait": shape.kill_wait,
        "MaxArraySize": shape.max_array_size,
        "ReturnToService": 2,
        "SlurmdTimeout": shape.slurmd_timeout,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "SchedulerParameters": (
            "batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1"
        ),
    }


def _accounting(folder: Path, port: int) -> dict[str, object]:
    return {
        "AuthType": "auth/munge",
        "AuthInfo": folder / "run/munge",
        "DbdHost": "localhost",
        "DbdPort": port,
        "SlurmUser": user(),
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": user(),
        "LogFile": folder / "log/slurmdbd.log",
        "PidFile": folder / "run/slurmdbd.pid",
    }


def _nodes(shape: Shape, ports: list[int]) -> str:
    size = f"CPUs={shape.cpus} RealMemory={shape.memory} Gres=gpu:{shape.gpus} Feature=a100"
    place = f"NodeHostname={_host()} NodeAddr=127.0.0.1"
    return "".join(
        f"NodeName={name} {place} Port={port} {size} State=UNKNOWN\n"
        for name, port in zip(shape.node_names, ports, strict=True)
    )


def _lines(settings: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_ports(count: int) -> list[int]:
    """Return unused ports, below those that the kernel uses for outgoing connections."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(10_000, 32_000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} free ports between 10000 and 32000")

"""What a cluster has and allows: its partitions, its nodes, and how much may be queued."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from paibench.slurm.ask import ask, own_name
from paibench.slurm.profile import Profile
from paibench.slurm.units import limit_minutes

MAX_ARRAY_SIZE = 1_001  # SLURM's own defaults
MAX_JOBS = 10_000
_FULL = re.compile("SubmitJob|MaxSubmit|too many jobs|job limit", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """How many tasks an array may have, how many jobs the cluster holds, how many are ours.

    An array counts as one job for each of its tasks; `max_submit` is None where accounting sets
    no limit or does not enforce any.
    """

    max_array_size: int = MAX_ARRAY_SIZE
    max_jobs: int = MAX_JOBS
    max_submit: int | None = None
    slots: int | None = None
    """How many such jobs the nodes can do at once, where the controller says."""


@dataclass(frozen=True)
class Partition:
    """A queue of the cluster; `max_minutes` is None where jobs may take any time."""

    name: str
    state: str
    default: bool
    max_minutes: int | None


@dataclass(frozen=True)
class Node:
    """What jobs can have of a machine; GPUs are counted by type, `""` where none is configured."""

    name: str
    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]
    features: frozenset[str]
    state: str
    partitions: frozenset[str]

    @property
    def up(self) -> bool:
        """Whether it takes jobs, now or when its present ones are done."""
        return not re.search("(?<!_)DOWN|DRAIN|FAIL", self.state)  # POWERED_DOWN is asleep


def limits(profile: Profile) -> Limits:
    """What the cluster allows to submit with a profile; SLURM's defaults where it does not say."""
    config = settings(ask("scontrol", "show", "config") or "")
    allowed = None
    if "limits" in config.get("AccountingStorageEnforce", ""):
        user, cluster = own_name(), config.get("ClusterName", "")
        allowed = max_submit(
            profile,
            associations=ask(
                *("sacctmgr", "-nP", "show", "assoc", "where", f"user={user}"),
                *(f"cluster={cluster}", f"format={','.join(ASSOCIATION)}"),
            )
            or "",
            qos=ask("sacctmgr", "-nP", "show", "qos", f"format={','.join(QOS)}") or "",
        )
    return Limits(
        max_array_size=_number(config.get("MaxArraySize")) or MAX_ARRAY_SIZE,
        max_jobs=_number(config.get("MaxJobCount")) or MAX_JOBS,
        max_submit=allowed,
        slots=slots(profile, partitions(), nodes()) or None,
    )


def slots(profile: Profile, known: Mapping[str, Partition], machines: Iterable[Node]) -> int:
    """How many jobs of a profile fit on its partitions at once, whoever uses them now."""
    default = (name for name, partition in known.items() if partition.default)
    wanted = set(profile.partition.split(",") if profile.partition else default)
    return sum(_slots(profile, node) for node in machines if node.up and node.partitions & wanted)


def _slots(profile: Profile, node: Node) -> int:
    fitting = [node.cpus // profile.cpus, node.memory_mb // profile.memory_mb]
    if profile.gpus:
        fitting.append(gpus(node, profile) // profile.gpus)
    return min(fitting)


def gpus(node: Node, profile: Profile) -> int:
    """How many GPUs of the profile's type, or of any, a node has."""
    return node.gpus.get(profile.gpu_type, 0) if profile.gpu_type else sum(node.gpus.values())


def is_full(said: str) -> bool:
    """Whether what sbatch says means that no more jobs of ours may be queued for now."""
    return _FULL.search(said) is not None


def partitions() -> dict[str, Partition]:
    """The partitions of the cluster by name; none where its controller does not answer."""
    return parse_partitions(ask("scontrol", "--all", "show", "partition", "--oneliner") or "")


def nodes(partition: str | None = None) -> list[Node]:
    """The nodes of a partition, or of the cluster; none where its controller does not answer."""
    found = parse_nodes(ask("scontrol", "--all", "show", "node", "--oneliner") or "")
    return [node for node in found if partition is None or partition in node.partitions]


def settings(text: str) -> dict[str, str]:
    """The lines `Key = value` of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def parse_partitions(text: str) -> dict[str, Partition]:
    """The partitions in what `scontrol show partition --oneliner` prints."""
    return {
        name: Partition(
            name=name,
            state=fields.get("State", ""),
            default=fields.get("Default") == "YES",
            max_minutes=limit_minutes(fields.get("MaxTime", "UNLIMITED")),
        )
        for fields in _lines(text)
        if (name := fields.get("PartitionName"))
    }


def parse_nodes(text: str) -> list[Node]:
    """The nodes in what `scontrol show node --oneliner` prints."""
    return [
        Node(
            name=name,
            cpus=_number(fields.get("CPUEfctv") or fields.get("CPUTot")) or 0,
            memory_mb=_number(fields.get("RealMemory")) or 0,
            gpus=parse_gpus(fields.get("Gres", "")),
            features=_listed(fields.get("AvailableFeatures", "")),
            state=fields.get("State", ""),
            partitions=_listed(fields.get("Partitions", "")),
        )
        for fields in _lines(text)
        if (name := fields.get("NodeName"))
    ]


def parse_gpus(gres: str) -> dict[str, int]:
    """GPUs by type from `gpu:4`, `gpu:a100:4(S:0-1),shard:8` or `(null)`."""
    found: Counter[str] = Counter()
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        if match := re.fullmatch(r"gpu(?::([^:\d][^:]*|\d+[^:\d][^:]*))?(?::(\d+))?", item):
            found[match[1] or ""] += int(match[2] or 1)
    return dict(found)


ASSOCIATION = ("Account", "Partition", "MaxSubmitJobs", "GrpSubmitJobs", "DefaultQOS")
QOS = ("Name", "MaxSubmitPU", "MaxSubmitPA", "GrpSubmit")


def max_submit(profile: Profile, associations: str, qos: str) -> int | None:
    """The least of the limits that apply to a profile, from what `sacctmgr` prints.

    `associations` has the fields ASSOCIATION of this user, `qos` the fields QOS of all. Where the
    profile names no account, all accounts of the user apply.
    """
    allowed: list[str] = []
    names = {profile.qos}
    for account, partition, most, of_group, default_qos in _rows(associations, ASSOCIATION):
        account_fits = profile.account is None or account == profile.account.lower()
        if account_fits and partition in ("", profile.partition):
            allowed += [most, of_group]
            names |= {default_qos} if profile.qos is None else set()
    for name, of_user, of_account, of_group in _rows(qos, QOS):
        if name in names:
            allowed += [of_user, of_account, of_group]
    return min((int(limit) for limit in allowed if limit.isdecimal()), default=None)


def _rows(text: str, fields: tuple[str, ...]) -> Iterator[list[str]]:
    rows = (line.split("|") for line in text.splitlines())
    return (row for row in rows if len(row) == len(fields))


def _lines(text: str) -> Iterator[dict[str, str]]:
    """Each line of `Key=value` words; the first of a key counts, as remarks come last."""
    for line in text.splitlines():
        yield dict(reversed(re.findall(r"(?:^|\s)(\w+)=(\S*)", line)))


def _listed(text: str) -> frozenset[str]:
    return frozenset(re.sub(r"\([^)]*\)", "", text).split(",")) - {""}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None

"""What a cluster has and allows: its partitions, its nodes, and how much may be queued."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paibench.methods.core.registry import did_you_mean
from paibench.slurm.commands import error_of, is_available, own_name, run
from paibench.slurm.profile import Profile, sbatch_options
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
    config = settings(run("scontrol", "show", "config") or "")
    allowed = None
    if "limits" in config.get("AccountingStorageEnforce", ""):
        user, cluster = own_name(), config.get("ClusterName", "")
        allowed = max_submit(
            profile,
            associations=run(
                *("sacctmgr", "-nP", "show", "assoc", "where", f"user={user}"),
                *(f"cluster={cluster}", f"format={','.join(ASSOCIATION)}"),
            )
            or "",
            qos=run("sacctmgr", "-nP", "show", "qos", f"format={','.join(QOS)}") or "",
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
    return parse_partitions(run("scontrol", "--all", "show", "partition", "--oneliner") or "")


def nodes(partition: str | None = None) -> list[Node]:
    """The nodes of a partition, or of the cluster; none where its controller does not answer."""
    found = parse_nodes(run("scontrol", "--all", "show", "node", "--oneliner") or "")
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


# check: Whether a cluster can do what a profile asks of it: asked before anything is queued.


def problems(profile: Profile) -> list[str]:
    """Why no job of this profile could start, as lines `key: what; what to do`; none where it can.

    Queues nothing. What the partitions and nodes do not show, `sbatch --test-only` judges last.
    """
    if not is_available():
        return ["sbatch and squeue are not on PATH; go to a machine that submits to a cluster"]
    if words := error_of("scontrol", "ping").partition("*")[0].strip():  # a banner comes after
        return [f"{_SILENT}: {words}; try again, or ask who runs the cluster"]
    found = [*mismatches(profile, partitions(), nodes()), *_not_ours(profile)]
    return found or list(_refused(profile))


_SILENT = "the controller of SLURM does not answer"
_UNREADY = "Requested node configuration is not available"  # also said of nodes that are not up yet


def may_pass(problem: str) -> bool:
    """Whether a problem may be one of a cluster that is just being started anew."""
    return _SILENT in problem or _UNREADY in problem


def mismatches(
    profile: Profile, known: Mapping[str, Partition], machines: Sequence[Node]
) -> list[str]:
    """What the profile asks that the cluster does not have; a job needs one of its partitions.

    Nothing is said where no partitions are known, as when their list did not come.
    """
    if not known:
        return []
    named = profile.partition.split(",") if profile.partition else _default(known)
    lines = [
        f"partition: the cluster has no {name}; {did_you_mean(name, known)}"
        for name in named
        if name not in known
    ]
    lines += _unknown_features(profile, machines)
    each = [
        list(_partition_misfits(profile, known[name], machines)) for name in named if name in known
    ]
    return lines if lines or [] in each else [line for found in each for line in found]


def _default(known: Mapping[str, Partition]) -> list[str]:
    return [name for name, partition in known.items() if partition.default]


def _unknown_features(profile: Profile, machines: Sequence[Node]) -> Iterator[str]:
    known = frozenset[str]().union(*(node.features for node in machines))
    for word in re.findall(r"(?<!\*)\b[\w.:=-]+", profile.constraint or ""):
        if word not in known:
            yield f"constraint: no node has the feature {word}; {did_you_mean(word, known)}"


def _partition_misfits(
    profile: Profile, partition: Partition, machines: Sequence[Node]
) -> Iterator[str]:
    if partition.state != "UP":
        yield f"partition: {partition.name} is {partition.state}; choose another or wait"
    if partition.max_minutes is not None and profile.minutes > partition.max_minutes:
        yield (
            f"time: {profile.time} is {profile.minutes} minutes, {partition.name} allows "
            f"{partition.max_minutes}; ask for less time or choose another partition"
        )
    members = [node for node in machines if partition.name in node.partitions]
    yield from _node_misfits(profile, partition.name, members)


def _node_misfits(profile: Profile, where: str, members: Sequence[Node]) -> Iterator[str]:
    if profile.gpu_type and all(profile.gpu_type not in node.gpus for node in members):
        types = {kind for node in members for kind in node.gpus} - {""}
        hint = did_you_mean(profile.gpu_type, types) if types else "remove it, GPUs have no types"
        yield f"gpu_type: no node of {where} has {profile.gpu_type}; {hint}"
        return
    too_much = [
        f"{key}: {asked}{unit} is more than any node of {where} has; the largest has {most}{unit}"
        for key, unit, asked, has in (
            ("gpus", "", profile.gpus, [gpus(node, profile) for node in members]),
            ("cpus", "", profile.cpus, [node.cpus for node in members]),
            ("memory", " MB", profile.memory_mb, [node.memory_mb for node in members]),
        )
        if asked > (most := max(has, default=0))
    ]
    fitting = [node for node in members if fits(profile, node)]
    if too_much:
        yield from too_much
    elif not fitting:
        yield f"no node of {where} has {asked_of_a_node(profile)} together; ask for less of one"
    elif not any(node.up for node in fitting):
        states = ", ".join(f"{node.name} {node.state}" for node in fitting[:3])
        yield f"partition: no node of {where} that fits takes jobs ({states}); wait or ask why"


def fits(profile: Profile, node: Node) -> bool:
    """Whether an empty node could hold a job; of a constraint, a single feature is looked at."""
    feature = profile.constraint
    return (
        gpus(node, profile) >= profile.gpus
        and node.cpus >= profile.cpus
        and node.memory_mb >= profile.memory_mb
        and (feature is None or not re.fullmatch(r"[\w.:-]+", feature) or feature in node.features)
    )


def asked_of_a_node(profile: Profile) -> str:
    """What a job asks of a node, in words."""
    kind = f" {profile.gpu_type}" if profile.gpu_type else ""
    parts = [f"{profile.cpus} cpus", f"{profile.memory_mb} MB"]
    parts += [f"{profile.gpus} gpus{kind}"] if profile.gpus else []
    parts += [f"the constraint {profile.constraint}"] if profile.constraint else []
    return ", ".join(parts)


def _not_ours(profile: Profile) -> Iterator[str]:
    """An account or a QOS that accounting, where it answers, does not know."""
    config = settings(run("scontrol", "show", "config") or "")
    if profile.account:
        where = ["where", f"cluster={config.get('ClusterName', '')}"]
        if "associations" in config.get("AccountingStorageEnforce", ""):
            where.append(f"user={own_name()}")
        accounts = _column("show", "assoc", *where, "format=Account")
        if accounts and profile.account.lower() not in accounts:
            mend = did_you_mean(profile.account, accounts)
            yield f"account: {profile.account} is none that you can use; {mend}"
    if profile.qos:
        known = _column("show", "qos", "format=Name")
        if known and profile.qos.lower() not in known:
            yield f"qos: the cluster has no {profile.qos}; {did_you_mean(profile.qos, known)}"


def _column(*command: str) -> set[str]:
    return set((run("sacctmgr", "-nP", *command) or "").lower().split()) - {""}


def _refused(profile: Profile) -> Iterator[str]:
    flags = [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in sbatch_options(profile).items()
    ]
    words = error_of("sbatch", "--test-only", *flags, "--wrap=true")
    if words and not is_full(words):  # what has no room now is not the profile's fault
        words = re.sub(r"sbatch: (error: )?|allocation failure: ", "", words)
        yield f"sbatch refuses such a job: {words}; change the profile, or wait for its nodes"

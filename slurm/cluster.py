"""What a cluster has and allows, and whether it can run the jobs of a profile.

`sbatch --test-only` is the last judge of a profile. It only says "Requested node configuration is
not available", so that partitions, nodes and accounts are compared first: these messages name the
key of the profile, what the cluster has, and what to do.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paibench.methods.core.registry import did_you_mean
from paibench.slurm.commands import error_of, is_available, run, user_name
from paibench.slurm.profile import Profile, sbatch_options
from paibench.slurm.units import limit_minutes

# Text is parsed below, not JSON: scontrol prints JSON only since SLURM 23.02, and that of sinfo
# differs between 22.05, 23.02 and 23.11.

DEFAULT_ARRAY_SIZE = 1_001  # SLURM's own defaults
DEFAULT_JOBS = 10_000
_QUEUE_FULL = re.compile("SubmitJob|MaxSubmit|too many jobs|job limit", re.IGNORECASE)
_NO_ANSWER = "the controller of SLURM does not answer"
_NOT_AVAILABLE = "Requested node configuration is not available"


@dataclass(frozen=True)
class Limits:
    """How many jobs a user can submit; an array counts as one job for each of its tasks."""

    max_array_size: int = DEFAULT_ARRAY_SIZE
    max_jobs: int = DEFAULT_JOBS
    max_submit: int | None = None
    """The limit of accounting; None if it sets or enforces none."""
    slots: int | None = None
    """How many such jobs the nodes can run at once, if the controller says."""

    @property
    def jobs(self) -> int:
        """The largest number of jobs of this user in the queue."""
        return self.max_jobs if self.max_submit is None else min(self.max_jobs, self.max_submit)


@dataclass(frozen=True)
class Partition:
    """A partition of the cluster; `max_minutes` is None if it has no time limit."""

    name: str
    state: str
    default: bool
    max_minutes: int | None


@dataclass(frozen=True)
class Node:
    """What jobs can have of a node; GPUs are counted by type, `""` if none is configured."""

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
        # POWERED_DOWN contains DOWN, but such a node is started for a job.
        return not re.search("(?<!_)DOWN|DRAIN|FAIL", self.state)

    def gpus_for(self, profile: Profile) -> int:
        """Return how many GPUs of the profile's type, or of any type, it has."""
        return self.gpus.get(profile.gpu_type, 0) if profile.gpu_type else sum(self.gpus.values())

    def slots(self, profile: Profile) -> int:
        """Return how many jobs of a profile fit on it at once if it is empty."""
        counts = [self.cpus // profile.cpus, self.memory_mb // profile.memory_mb]
        if profile.gpus:
            counts.append(self.gpus_for(profile) // profile.gpus)
        return min(counts)


# -- limits ----------------------------------------------------------------------------------------


def limits(profile: Profile) -> Limits:
    """Return what a user can submit with a profile; SLURM's defaults if it does not answer."""
    config = parse_config(run("scontrol", "show", "config") or "")
    allowed = None
    if "limits" in config.get("AccountingStorageEnforce", ""):
        where = f"user={user_name()}", f"cluster={config.get('ClusterName', '')}"
        allowed = max_submit(
            profile,
            associations=_accounting("assoc", *ASSOCIATION, where=where),
            qos=_accounting("qos", *QOS),
        )
    return Limits(
        max_array_size=_number(config.get("MaxArraySize")) or DEFAULT_ARRAY_SIZE,
        max_jobs=_number(config.get("MaxJobCount")) or DEFAULT_JOBS,
        max_submit=allowed,
        slots=slots(profile, partitions(), nodes()) or None,
    )


def slots(
    profile: Profile, all_partitions: Mapping[str, Partition], machines: Iterable[Node]
) -> int:
    """Return how many jobs of a profile its partitions can run at once if they are empty."""
    names = {*_requested(profile, all_partitions)}
    return sum(node.slots(profile) for node in machines if node.up and node.partitions & names)


ASSOCIATION = ("Account", "Partition", "MaxSubmitJobs", "GrpSubmitJobs", "DefaultQOS")
QOS = ("Name", "MaxSubmitPU", "MaxSubmitPA", "GrpSubmit")


def max_submit(profile: Profile, associations: str, qos: str) -> int | None:
    """Return the lowest limit that applies to a profile, from the output of `sacctmgr`.

    `associations` has the fields ASSOCIATION of this user, `qos` the fields QOS of every QOS. If
    the profile names no account, the limits of all accounts of the user apply.
    """
    allowed: list[str] = []
    names = {profile.qos}
    for account, partition, per_user, per_group, default_qos in _rows(associations, ASSOCIATION):
        same_account = profile.account is None or account == profile.account.lower()
        if same_account and partition in ("", profile.partition):
            allowed += [per_user, per_group]
            names |= {default_qos} if profile.qos is None else set()
    for name, per_user, per_account, per_group in _rows(qos, QOS):
        if name in names:
            allowed += [per_user, per_account, per_group]
    return min((int(limit) for limit in allowed if limit.isdecimal()), default=None)


def is_queue_full(message: str) -> bool:
    """Return whether a message of sbatch says that the user may submit no more jobs for now."""
    return _QUEUE_FULL.search(message) is not None


# -- output of SLURM's commands --------------------------------------------------------------------


def partitions() -> dict[str, Partition]:
    """Return the partitions by name; none if the controller does not answer."""
    return parse_partitions(run("scontrol", "--all", "show", "partition", "--oneliner") or "")


def nodes() -> list[Node]:
    """Return the nodes; none if the controller does not answer."""
    return parse_nodes(run("scontrol", "--all", "show", "node", "--oneliner") or "")


def parse_config(text: str) -> dict[str, str]:
    """Return the lines `Key = value` of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def parse_partitions(text: str) -> dict[str, Partition]:
    """Return the partitions in the output of `scontrol show partition --oneliner`."""
    return {
        name: Partition(
            name=name,
            state=fields.get("State", ""),
            default=fields.get("Default") == "YES",
            max_minutes=limit_minutes(fields.get("MaxTime", "UNLIMITED")),
        )
        for fields in _fields(text)
        if (name := fields.get("PartitionName"))
    }


def parse_nodes(text: str) -> list[Node]:
    """Return the nodes in the output of `scontrol show node --oneliner`."""
    return [
        Node(
            name=name,
            cpus=_number(fields.get("CPUEfctv") or fields.get("CPUTot")) or 0,
            memory_mb=_number(fields.get("RealMemory")) or 0,
            gpus=parse_gpus(fields.get("Gres", "")),
            features=_set(fields.get("AvailableFeatures", "")),
            state=fields.get("State", ""),
            partitions=_set(fields.get("Partitions", "")),
        )
        for fields in _fields(text)
        if (name := fields.get("NodeName"))
    ]


def parse_gpus(gres: str) -> dict[str, int]:
    """Return GPUs by type from `gpu:4`, `gpu:a100:4(S:0-1),shard:8` or `(null)`."""
    counts: Counter[str] = Counter()
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        # A type may begin with a digit, as 1g.5gb does, but is not a number.
        if match := re.fullmatch(r"gpu(?::([^:\d][^:]*|\d+[^:\d][^:]*))?(?::(\d+))?", item):
            counts[match[1] or ""] += int(match[2] or 1)
    return dict(counts)


def _fields(text: str) -> Iterator[dict[str, str]]:
    """Yield the `Key=value` words of each line."""
    for line in text.splitlines():
        # The first value of a key counts: an administrator's remark, at the end, may look alike.
        yield dict(reversed(re.findall(r"(?:^|\s)(\w+)=(\S*)", line)))


def _rows(text: str, fields: tuple[str, ...]) -> Iterator[list[str]]:
    rows = (line.split("|") for line in text.splitlines())
    return (row for row in rows if len(row) == len(fields))


def _set(text: str) -> frozenset[str]:
    return frozenset(re.sub(r"\([^)]*\)", "", text).split(",")) - {""}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _accounting(what: str, *fields: str, where: Sequence[str] = ()) -> str:
    """Return the output of `sacctmgr show`, one line `a|b|c` each; empty without an answer."""
    conditions = ["where", *where] if where else []
    command = ("sacctmgr", "-nP", "show", what, *conditions, f"format={','.join(fields)}")
    return run(*command) or ""


# -- the jobs of a profile -------------------------------------------------------------------------


def problems(profile: Profile) -> list[str]:
    """Return why no job of this profile can start, as lines `key: what is wrong; what to do`.

    Queues nothing.
    """
    if not is_available():
        return ["sbatch and squeue are not on PATH; use a machine that can submit to a cluster"]
    # Some sites print a banner of asterisks after the message.
    if error := error_of("scontrol", "ping").partition("*")[0].strip():
        return [f"{_NO_ANSWER}: {error}; try again, or ask an administrator"]
    lines = [*mismatches(profile, partitions(), nodes()), *_account_problems(profile)]
    return lines or list(_refusal(profile))


def is_transient(problem: str) -> bool:
    """Return whether a problem may be one of a cluster that is just starting."""
    # A controller reports nodes that have not registered yet as not available.
    return _NO_ANSWER in problem or _NOT_AVAILABLE in problem


def mismatches(
    profile: Profile, all_partitions: Mapping[str, Partition], machines: Sequence[Node]
) -> list[str]:
    """Return what the profile asks and the cluster does not have; one partition must have it all.

    Returns nothing if no partitions are known, as when the controller did not list them.
    """
    if not all_partitions:
        return []
    names = _requested(profile, all_partitions)
    lines = [
        f"partition: the cluster has no {name}; {did_you_mean(name, all_partitions)}"
        for name in names
        if name not in all_partitions
    ]
    lines += _unknown_features(profile, machines)
    by_partition = [
        list(_partition_mismatches(profile, all_partitions[name], machines))
        for name in names
        if name in all_partitions
    ]
    if lines or [] in by_partition:
        return lines
    return [line for each in by_partition for line in each]


def _requested(profile: Profile, all_partitions: Mapping[str, Partition]) -> list[str]:
    """Return the partitions that a profile names, or the cluster's default."""
    if profile.partition:
        return profile.partition.split(",")
    return [name for name, partition in all_partitions.items() if partition.default]


def _unknown_features(profile: Profile, machines: Sequence[Node]) -> Iterator[str]:
    features = frozenset[str]().union(*(node.features for node in machines))
    for word in re.findall(r"(?<!\*)\b[\w.:=-]+", profile.constraint or ""):
        if word not in features:
            yield f"constraint: no node has the feature {word}; {did_you_mean(word, features)}"


def _partition_mismatches(
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
    yield from _node_mismatches(profile, partition.name, members)


def _node_mismatches(profile: Profile, partition: str, members: Sequence[Node]) -> Iterator[str]:
    if profile.gpu_type and all(profile.gpu_type not in node.gpus for node in members):
        types = {name for node in members for name in node.gpus} - {""}
        hint = did_you_mean(profile.gpu_type, types) if types else "remove it, GPUs have no types"
        yield f"gpu_type: no node of {partition} has {profile.gpu_type}; {hint}"
        return
    too_much = [
        f"{key}: {asked}{unit} is more than any node of {partition} has; "
        f"the largest has {largest}{unit}"
        for key, unit, asked, available in (
            ("gpus", "", profile.gpus, [node.gpus_for(profile) for node in members]),
            ("cpus", "", profile.cpus, [node.cpus for node in members]),
            ("memory", " MB", profile.memory_mb, [node.memory_mb for node in members]),
        )
        if asked > (largest := max(available, default=0))
    ]
    fitting = [node for node in members if _fits(profile, node)]
    if too_much:
        yield from too_much
    elif not fitting:
        yield f"no node of {partition} has {_request(profile)} together; ask for less of one"
    elif not any(node.up for node in fitting):
        states = ", ".join(f"{node.name} {node.state}" for node in fitting[:3])
        yield (
            f"partition: no node of {partition} that fits takes jobs ({states}); "
            "wait or ask an administrator"
        )


def _fits(profile: Profile, node: Node) -> bool:
    # sbatch evaluates expressions of several features; only a single one is compared here.
    feature = profile.constraint
    single = feature is not None and re.fullmatch(r"[\w.:-]+", feature)
    return node.slots(profile) > 0 and (not single or feature in node.features)


def _request(profile: Profile) -> str:
    """Return in words what a job asks of a node."""
    gpu_type = f" {profile.gpu_type}" if profile.gpu_type else ""
    parts = [f"{profile.cpus} cpus", f"{profile.memory_mb} MB"]
    parts += [f"{profile.gpus} gpus{gpu_type}"] if profile.gpus else []
    parts += [f"the constraint {profile.constraint}"] if profile.constraint else []
    return ", ".join(parts)


def _account_problems(profile: Profile) -> Iterator[str]:
    """Yield an account or a QOS that accounting does not know, if it answers."""
    if profile.account:
        config = parse_config(run("scontrol", "show", "config") or "")
        where = [f"cluster={config.get('ClusterName', '')}"]
        if "associations" in config.get("AccountingStorageEnforce", ""):
            where.append(f"user={user_name()}")
        accounts = set(_accounting("assoc", "Account", where=where).lower().split())
        if accounts and profile.account.lower() not in accounts:
            hint = did_you_mean(profile.account, accounts)
            yield f"account: {profile.account} is not one that you can use; {hint}"
    if profile.qos:
        qos_names = set(_accounting("qos", "Name").lower().split())
        if qos_names and profile.qos.lower() not in qos_names:
            yield f"qos: the cluster has no {profile.qos}; {did_you_mean(profile.qos, qos_names)}"


def _refusal(profile: Profile) -> Iterator[str]:
    """Yield the message of `sbatch --test-only`, if it refuses a job of the profile."""
    options = [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in sbatch_options(profile).items()
    ]
    message = error_of("sbatch", "--test-only", *options, "--wrap=true")
    if message and not is_queue_full(message):  # a full queue is not the profile's fault
        message = re.sub(r"sbatch: (error: )?|allocation failure: ", "", message)
        yield f"sbatch refuses such a job: {message}; change the profile, or wait for its nodes"

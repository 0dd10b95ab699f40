"""Whether a cluster can do what a profile asks of it: asked before anything is queued."""

import re
from collections.abc import Iterator, Mapping, Sequence

from paibench.methods.registry import did_you_mean
from paibench.slurm.ask import ask, complaint, here, own_name
from paibench.slurm.limits import Node, Partition, gpus, is_full, nodes, partitions, settings
from paibench.slurm.options import sbatch_options
from paibench.slurm.profile import Profile


def problems(profile: Profile) -> list[str]:
    """Why no job of this profile could start, as lines `key: what; what to do`; none where it can.

    Queues nothing. What the partitions and nodes do not show, `sbatch --test-only` judges last.
    """
    if not here():
        return ["sbatch and squeue are not on PATH; go to a machine that submits to a cluster"]
    if words := complaint("scontrol", "ping").partition("*")[0].strip():  # a banner comes after
        return [f"{_SILENT}: {words}; try again, or ask who runs the cluster"]
    found = [*misfits(profile, partitions(), nodes()), *_not_ours(profile)]
    return found or list(_refused(profile))


_SILENT = "the controller of SLURM does not answer"
_UNREADY = "Requested node configuration is not available"  # also said of nodes that are not up yet


def may_pass(problem: str) -> bool:
    """Whether a problem may be one of a cluster that is just being started anew."""
    return _SILENT in problem or _UNREADY in problem


def misfits(
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
    config = settings(ask("scontrol", "show", "config") or "")
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
    return set((ask("sacctmgr", "-nP", *command) or "").lower().split()) - {""}


def _refused(profile: Profile) -> Iterator[str]:
    flags = [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in sbatch_options(profile).items()
    ]
    words = complaint("sbatch", "--test-only", *flags, "--wrap=true")
    if words and not is_full(words):  # what has no room now is not the profile's fault
        words = re.sub(r"sbatch: (error: )?|allocation failure: ", "", words)
        yield f"sbatch refuses such a job: {words}; change the profile, or wait for its nodes"

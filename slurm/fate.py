"""What became of a job, as SLURM tells it: for the words in a note, never for what is done."""

import os
import re
from dataclasses import dataclass, replace
from functools import cache

from paibench.benchmark.failures import Cause, Interruption
from paibench.benchmark.naming import Job, plain_name
from paibench.slurm.ask import ask, complaint
from paibench.slurm.units import megabytes


@dataclass(frozen=True)
class Fate:
    """Why work in a job ended without a record, by its cause and in words."""

    cause: Cause | Interruption
    reason: str
    memory_mb: int | None = None
    """What the whole job might hold, where that was too little."""


_BY_STATE: dict[str, Fate] = {
    "CANCELLED": Fate("cancelled", "its job was cancelled"),
    "PREEMPTED": Fate("preempted", "its job was preempted"),
    "NODE_FAIL": Fate("node", "its node was lost"),
    "BOOT_FAIL": Fate("node", "its node was lost"),
    "REQUEUED": Fate("requeued", "its job was requeued"),
    "PENDING": Fate("requeued", "its job was requeued"),
    "TIMEOUT": Fate("limit", "its job reached its time limit"),
    "DEADLINE": Fate("limit", "its job reached its deadline"),
    "OUT_OF_MEMORY": Fate("memory", "its job ran out of memory"),
    "FAILED": Fate("killed", "its job failed"),
    "COMPLETED": Fate("killed", "its job ended with status 0 but left no record"),
}
LOST = Fate("lost", "its job is gone, and nobody can say why")


def own_number() -> str:
    """What SLURM's commands take for the present job and for no other.

    The number of an array's last job is also that of the array, and would stand for all of it.
    """
    array, index = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "0")


def ask_now(restart: int) -> Fate:
    """Why the present job, requeued `restart` times before, was just told to end."""
    said = ask("scontrol", "show", "job", own_number(), "--oneliner", seconds=3.0) or ""
    fields = dict(re.findall(r"(\w+)=(\S*)", said))
    if fields.get("PreemptTime", "None") not in ("None", "Unknown", "N/A"):
        return _BY_STATE["PREEMPTED"]
    state = fields.get("JobState", "")
    if state == "RUNNING":  # told by a signal alone
        return Fate("cancelled", "its job was told to end by SIGTERM")
    if int(fields.get("Restarts", 0)) > restart:  # a node that is given up is not waited for
        return _BY_STATE["NODE_FAIL" if state == "PENDING" else "REQUEUED"]
    if state == "COMPLETING" and fields.get("ExitCode") == "0:15":
        return _BY_STATE["CANCELLED"]
    return _BY_STATE.get(state, LOST)


def ask_later(job: Job) -> Fate:
    """Why a job has ended, as accounting knows it; `lost` where that does not answer."""
    fields = "JobIDRaw,State,ExitCode,MaxRSS,ReqMem"
    said = ask("sacct", "-nPD", "--noconvert", "-j", str(job.id), "-o", fields)
    lines = [line.split("|") for line in (said or "").splitlines()]
    rows = [row for row in lines if row[0].partition(".")[0] == str(job.id)]  # not all its array
    starts = [place for place, row in enumerate(rows) if "." not in row[0]]
    if not starts:
        return LOST
    turn = min(job.restart, len(starts) - 1)
    ours = rows[starts[turn] : [*starts, len(rows)][turn + 1]]
    _, state, code, _, asked = ours[0]
    if any(row[1].startswith("OUT_OF_ME") for row in ours) or (
        state == "FAILED" and asked and any(_exceeds(row[3], asked) for row in ours)
    ):
        return replace(_BY_STATE["OUT_OF_MEMORY"], memory_mb=_asked_for(asked))
    fate = _BY_STATE.get(state.partition(" ")[0], LOST)
    return Fate(fate.cause, f"{fate.reason} (exit code {code})")


def _exceeds(held: str, asked: str) -> bool:
    """Whether so many bytes are more than a job asked for, whoever kills it for that."""
    most = _asked_for(asked)
    return most is not None and held.isdecimal() and int(held) > most << 20


def _asked_for(memory: str) -> int | None:
    """MB of a job, from what accounting says of its request; None where it is per CPU."""
    try:
        return megabytes(memory.removesuffix("n"))
    except ValueError:
        return None


@cache
def own_cluster() -> str:
    """The name of the cluster that SLURM's commands speak with, as attempts have it."""
    name = re.search(r"^ClusterName\s*=\s*(\S+)", ask("scontrol", "show", "config") or "", re.M)
    return plain_name(name[1]) if name else "?"


def is_gone(job: Job) -> bool:
    """Whether the controller answers and knows no such job of its own any more."""
    if job.cluster not in ("", own_cluster()):  # another cluster on the same file system
        return False
    said = ask("squeue", "-h", "-j", str(job.id), "-o", "%A")
    if said is not None:
        return str(job.id) not in said.split()
    return "Invalid job id" in complaint("squeue", "-h", "-j", str(job.id))

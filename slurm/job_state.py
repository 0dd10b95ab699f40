"""What became of a job, as SLURM tells it: for the words in a note, never for what is done."""

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.failures import Cause, Interruption
from paibench.benchmark.store.names import SlurmJob, short_slug
from paibench.benchmark.store.progress import read_progress
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.commands import error_of, run
from paibench.slurm.submission import Submission
from paibench.slurm.units import megabytes


@dataclass(frozen=True)
class JobEnd:
    """Why work in a job ended without a record, by its cause and in words."""

    cause: Cause | Interruption
    reason: str
    memory_mb: int | None = None
    """What the whole job might hold, where that was too little."""


_BY_STATE: dict[str, JobEnd] = {
    "CANCELLED": JobEnd("cancelled", "its job was cancelled"),
    "PREEMPTED": JobEnd("preempted", "its job was preempted"),
    "NODE_FAIL": JobEnd("node", "its node was lost"),
    "BOOT_FAIL": JobEnd("node", "its node was lost"),
    "REQUEUED": JobEnd("requeued", "its job was requeued"),
    "PENDING": JobEnd("requeued", "its job was requeued"),
    "TIMEOUT": JobEnd("limit", "its job reached its time limit"),
    "DEADLINE": JobEnd("limit", "its job reached its deadline"),
    "OUT_OF_MEMORY": JobEnd("memory", "its job ran out of memory"),
    "FAILED": JobEnd("killed", "its job failed"),
    "COMPLETED": JobEnd("killed", "its job ended with status 0 but left no record"),
}
_LOOKED_AT = 500  # logs, where accounting does not say which is a job's
UNKNOWN_END = JobEnd("lost", "its job is gone, and nobody can say why")


def own_number() -> str:
    """What SLURM's commands take for the present job and for no other.

    The number of an array's last job is also that of the array, and would stand for all of it.
    """
    array, index = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "0")


def end_of_running_job(restart: int) -> JobEnd:
    """Why the present job, requeued `restart` times before, was just told to end."""
    said = run("scontrol", "show", "job", own_number(), "--oneliner", seconds=3.0) or ""
    fields = dict(re.findall(r"(\w+)=(\S*)", said))
    if fields.get("PreemptTime", "None") not in ("None", "Unknown", "N/A"):
        return _BY_STATE["PREEMPTED"]
    state = fields.get("JobState", "")
    if state == "RUNNING":  # told by a signal alone
        return JobEnd("cancelled", "its job was told to end by SIGTERM")
    if int(fields.get("Restarts", 0)) > restart:  # a node that is given up is not waited for
        return _BY_STATE["NODE_FAIL" if state == "PENDING" else "REQUEUED"]
    if state == "COMPLETING" and fields.get("ExitCode") == "0:15":
        return _BY_STATE["CANCELLED"]
    return _BY_STATE.get(state, UNKNOWN_END)


def end_of_finished_job(job: SlurmJob, campaigns: Path) -> JobEnd:
    """Why a job of one of these campaigns has ended, as accounting and its log tell it.

    `lost` where neither does.
    """
    fields = "JobIDRaw,JobID,State,ExitCode,MaxRSS,ReqMem,JobName"
    said = run("sacct", "-nPD", "--noconvert", "-j", str(job.id), "-o", fields)
    lines = [line.split("|", 6) for line in (said or "").splitlines()]
    rows = [row for row in lines if row[0].partition(".")[0] == str(job.id)]  # not all its array
    starts = [place for place, row in enumerate(rows) if "." not in row[0]]
    # a controller that crashed may have given the number to another job before
    starts = [place for place in starts if rows[place][6] == rows[starts[-1]][6]]
    if not starts:
        log = next((log for log in _logs(campaigns, "*")[:_LOOKED_AT] if _told(log, job)), None)
        return replace(_BY_STATE["OUT_OF_MEMORY"], memory_mb=_profiled(log)) if log else UNKNOWN_END
    turn = min(job.restart, len(starts) - 1)
    ours = rows[starts[turn] : [*starts, len(rows)][turn + 1]]
    _, shown, state, code, _, asked, _ = ours[0]
    log = next(iter(_logs(campaigns, f"{shown}_*")), None)
    most = _asked_for(asked) or _profiled(log)
    held = [int(row[4]) for row in ours if row[4].isdecimal()]
    if state.startswith("OUT_OF_ME") or (
        state == "FAILED"
        and (
            any(row[2].startswith("OUT_OF_ME") for row in ours)
            # what was held is a sample, which may be from long before the end
            or max(held, default=0) > (most or 1 << 43) << 20
            or _told(log, job)
        )
    ):
        return replace(_BY_STATE["OUT_OF_MEMORY"], memory_mb=most)
    fate = _BY_STATE.get(state.partition(" ")[0], UNKNOWN_END)
    return JobEnd(fate.cause, f"{fate.reason} (exit code {code})")


def _logs(campaigns: Path, shown: str) -> list[Path]:
    """What SLURM and jobs printed, by what SLURM's commands call them; the latest campaign first.

    A number may have been given out twice.
    """
    found = campaigns.glob(f"*/logs/{shown}_log.out")
    return sorted(found, key=lambda path: path.parent.parent.name, reverse=True)


def _profiled(log: Path | None) -> int | None:
    """MB of each job of the campaign that a log belongs to."""
    with suppress(UserError):
        return Submission.read(log.parent.parent).profile.memory_mb if log else None
    return None


def _told(log: Path | None, job: SlurmJob) -> bool:
    """Whether a log says that SLURM killed this job for its memory."""
    step = rf"StepId={job.id}\.\d+"
    words = rf"{step} exceeded memory limit|oom.kill.* in {step}"
    with suppress(OSError):
        return bool(log and re.search(words, log.read_text(errors="replace"), re.IGNORECASE))
    return False


def _asked_for(memory: str) -> int | None:
    """MB of a job, from what accounting says of its request; None where that is no amount.

    It knows no better of some arrays of a single job.
    """
    try:
        return megabytes(memory.removesuffix("n"))
    except ValueError:
        return None


@cache
def own_cluster() -> str:
    """The name of the cluster that SLURM's commands speak with, as attempts have it."""
    name = re.search(r"^ClusterName\s*=\s*(\S+)", run("scontrol", "show", "config") or "", re.M)
    return short_slug(name[1]) if name else "?"


def is_gone(job: SlurmJob) -> bool:
    """Whether the controller answers and knows no such job of its own any more."""
    if job.cluster not in ("", own_cluster()):  # another cluster on the same file system
        return False
    said = run("squeue", "-h", "-a", "-j", str(job.id), "-o", "%A")
    if said is not None:
        return str(job.id) not in said.split()
    return "Invalid job id" in error_of("squeue", "-h", "-a", "-j", str(job.id))


STUCK = 2  # time limits in a row without any headway
SHORT = 5.0  # seconds in which nobody has to get on


def record_interruption(
    store: Store, spec: Spec, attempt: str, fate: JobEnd, at_work: int = 1
) -> None:
    """Note why an attempt ended, how far it had come, and what it might have held.

    `at_work` attempts shared the memory of their job. One that time limits found twice in the same
    place is `stuck`. Raises StoreError.
    """
    headway = read_progress(store.attempt_folder(spec.key, attempt))
    far = list(headway.fingerprint)
    cause, reason = fate.cause, fate.reason
    if cause == "limit":
        reason = f"{reason} at step {far[0]}"
        had_time = time.time() - headway.started >= SHORT
        if had_time and _limits_at(store, spec.key, far) + 1 >= STUCK:
            cause = "stuck"
            reason = f"{STUCK} time limits in a row found it at step {far[0]}; give jobs more time"
    share = fate.memory_mb // at_work if fate.memory_mb else None
    failures.record_failure(store, spec, attempt, cause, reason, memory_mb=share, far=far)


def _limits_at(store: Store, key: str, far: list[int]) -> int:
    """How many time limits in a row, up to the last, found a run where it is now."""
    count = 0
    for note in reversed(store.failures(key)):
        if note.get("cause") != "limit" or note.get("far") != far:
            break
        count += 1
    return count

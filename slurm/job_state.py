"""Why jobs end, according to SLURM and their logs.

Only notes about failures depend on this: whether a run is done is read from the store alone.
"""

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

STUCK_LIMITS = 2  # time limits in a row without progress that make a run `stuck`
MIN_SECONDS = 5.0  # attempts shorter than this cannot count as stuck
_LOGS_SEARCHED = 500  # if accounting does not tell which log belongs to a job
_NO_MEMORY_LIMIT = 1 << 43  # MB


@dataclass(frozen=True)
class JobEnd:
    """Why a job ended before its runs were done: the cause and a reason in words."""

    cause: Cause | Interruption
    reason: str
    memory_mb: int | None = None
    """The memory of the whole job, if it was too little."""


UNKNOWN_END = JobEnd("lost", "its job is gone for an unknown reason")
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
TIME_LIMIT = _BY_STATE["TIMEOUT"]


# -- the present job -------------------------------------------------------------------------------


def own_job_id() -> str:
    """Return the id that SLURM's commands take for the present job and no other.

    The raw id of an array's last job is also the id of the array, and would name all its jobs.
    """
    array, index = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "0")


def end_of_running_job(restart: int) -> JobEnd:
    """Return why the present job, requeued `restart` times before, received SIGTERM."""
    output = run("scontrol", "show", "job", own_job_id(), "--oneliner", seconds=3.0) or ""
    fields = dict(re.findall(r"(\w+)=(\S*)", output))
    if fields.get("PreemptTime", "None") not in ("None", "Unknown", "N/A"):
        return _BY_STATE["PREEMPTED"]
    state = fields.get("JobState", "")
    if state == "RUNNING":
        return JobEnd("cancelled", "its job received SIGTERM")
    if int(fields.get("Restarts", 0)) > restart:
        # A job that is requeued by command is COMPLETING until its processes end. The controller
        # does not wait for those of a lost node, so that the job is PENDING at once.
        return _BY_STATE["NODE_FAIL" if state == "PENDING" else "REQUEUED"]
    if state == "COMPLETING" and fields.get("ExitCode") == "0:15":
        return _BY_STATE["CANCELLED"]
    return _BY_STATE.get(state, UNKNOWN_END)


# -- jobs that have ended --------------------------------------------------------------------------


@cache
def cluster_name() -> str:
    """Return the name of the cluster, as it appears in the names of attempts."""
    match = re.search(r"^ClusterName\s*=\s*(\S+)", run("scontrol", "show", "config") or "", re.M)
    return short_slug(match[1]) if match else "?"


def is_gone(job: SlurmJob) -> bool:
    """Return whether the controller answers and no longer knows this job of its cluster."""
    if job.cluster not in ("", cluster_name()):  # another cluster on the same file system
        return False
    squeue = ("squeue", "-h", "-a", "-j", str(job.id), "-o", "%A")
    listing = run(*squeue)
    if listing is not None:
        return str(job.id) not in listing.split()
    return "Invalid job id" in error_of(*squeue)


def end_of_finished_job(job: SlurmJob, submissions: Path) -> JobEnd:
    """Return why a job of one of these submissions ended, according to accounting and its log.

    It is UNKNOWN_END if neither says so.
    """
    fields = "JobIDRaw,JobID,State,ExitCode,MaxRSS,ReqMem,JobName"
    output = run("sacct", "-nPD", "--noconvert", "-j", str(job.id), "-o", fields)
    lines = [line.split("|", 6) for line in (output or "").splitlines()]
    # For an array's id, sacct lists all jobs of the array.
    rows = [row for row in lines if row[0].partition(".")[0] == str(job.id)]
    starts = [number for number, row in enumerate(rows) if "." not in row[0]]
    # A controller that lost its state may have given the id to another job before.
    starts = [number for number in starts if rows[number][6] == rows[starts[-1]][6]]
    if not starts:
        logs = _logs(submissions, "*")[:_LOGS_SEARCHED]
        log = next((log for log in logs if _reports_memory_kill(log, job)), None)
        return replace(_BY_STATE["OUT_OF_MEMORY"], memory_mb=_limit_of(log)) if log else UNKNOWN_END
    start = min(job.restart, len(starts) - 1)
    steps = rows[starts[start] : [*starts, len(rows)][start + 1]]
    _, job_id, state, code, _, requested, _ = steps[0]
    log = next(iter(_logs(submissions, f"{job_id}_*")), None)
    limit = _requested_memory(requested) or _limit_of(log)
    used = max((int(row[4]) for row in steps if row[4].isdecimal()), default=0)
    if state.startswith("OUT_OF_ME") or (
        state == "FAILED"
        and (
            any(row[2].startswith("OUT_OF_ME") for row in steps)
            # MaxRSS is sampled, so that it may miss the peak; then only the log tells.
            or used > (limit or _NO_MEMORY_LIMIT) << 20
            or _reports_memory_kill(log, job)
        )
    ):
        return replace(_BY_STATE["OUT_OF_MEMORY"], memory_mb=limit)
    end = _BY_STATE.get(state.partition(" ")[0], UNKNOWN_END)
    return JobEnd(end.cause, f"{end.reason} (exit code {code})")


def _logs(submissions: Path, job_id: str) -> list[Path]:
    """Return the logs of the jobs with this id, those of the latest submission first."""
    logs = submissions.glob(f"*/logs/{job_id}_log.out")
    return sorted(logs, key=lambda path: path.parent.parent.name, reverse=True)


def _limit_of(log: Path | None) -> int | None:
    """Return the memory in MB of each job of the submission that a log belongs to."""
    with suppress(UserError):
        return Submission.read(log.parent.parent).profile.memory_mb if log else None
    return None


def _reports_memory_kill(log: Path | None, job: SlurmJob) -> bool:
    """Return whether a log says that SLURM killed this job for its memory."""
    step = rf"StepId={job.id}\.\d+"
    pattern = rf"{step} exceeded memory limit|oom.kill.* in {step}"
    with suppress(OSError):
        return bool(log and re.search(pattern, log.read_text(errors="replace"), re.IGNORECASE))
    return False


def _requested_memory(memory: str) -> int | None:
    """Return the MB that a job requested; None if accounting shows no valid amount.

    SLURM 22.05 shows a number near 2**64 for some arrays of a single job.
    """
    try:
        return megabytes(memory.removesuffix("n"))
    except ValueError:
        return None


# -- notes in the store ----------------------------------------------------------------------------


def record_interruption(
    store: Store, spec: Spec, attempt: str, end: JobEnd, concurrent: int = 1
) -> None:
    """Note in the store why an attempt ended, its progress, and the memory that it had.

    `concurrent` attempts shared the memory of their job. An attempt that made no progress between
    two time limits is `stuck`. Raises StoreError.
    """
    progress = read_progress(store.attempt_folder(spec.key, attempt))
    far = list(progress.fingerprint)
    cause, reason = end.cause, end.reason
    if cause == "limit":
        reason = f"{reason} at step {far[0]}"
        long_enough = time.time() - progress.started >= MIN_SECONDS
        if long_enough and _limits_without_progress(store, spec.key, far) + 1 >= STUCK_LIMITS:
            cause = "stuck"
            reason = (
                f"{STUCK_LIMITS} time limits in a row were reached at step {far[0]}; "
                "give jobs more time"
            )
    share = end.memory_mb // concurrent if end.memory_mb else None
    failures.record_failure(store, spec, attempt, cause, reason, memory_mb=share, far=far)


def _limits_without_progress(store: Store, key: str, far: list[int]) -> int:
    """Return how many of the last attempts at a run hit a time limit with the present progress."""
    count = 0
    for note in reversed(store.failures(key)):
        if note.get("cause") != "limit" or note.get("far") != far:
            break
        count += 1
    return count

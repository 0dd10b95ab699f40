"""Submission of a sweep: runs that are missing and not queued become arrays of jobs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from time import sleep

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from paibench.benchmark.execution.process_tree import child_environment
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import server_time
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.plan import Plan, plan
from paibench.benchmark.sweeps.sweep import Sweep
from paibench.methods.core.registry import UserError, is_own
from paibench.methods.core.text import one_line
from paibench.slurm.cleanup import release_dead_leases
from paibench.slurm.cluster import Limits, is_queue_full
from paibench.slurm.commands import login_environment, run
from paibench.slurm.packing import bundles
from paibench.slurm.profile import Option, Profile, sbatch_options
from paibench.slurm.queue import Queue, read_queue
from paibench.slurm.submission import Submission, plugin_digest

SBATCH_ATTEMPTS = 3
SEARCH_SECONDS = 30.0  # for an array whose id was lost in a failed reply of sbatch
_QUEUE_ATTEMPTS = 3  # calls of squeue before the controller counts as unavailable
_LOCK_SECONDS = 600.0  # a step of one submission may take this long while another waits
_QUIET_POLLS = 15  # polls of the lock before a message says that another submission holds it
_IMPORT_SECONDS = 300.0  # to import torch from a slow file system
_TRANSIENT = re.compile(
    "contact slurm controller|timed out|refused|zero bytes|temporarily|try again|"
    "could not make sense|communication|connect failure|does not answer|not connected|"
    "connection reset|broken pipe",
    re.IGNORECASE,
)


class QueueFull(Exception):
    """The cluster accepts no more jobs of this user for now."""


class ControllerUnavailable(UserError):
    """SLURM's controller does not answer; it may do so later."""


# -- from a sweep to jobs --------------------------------------------------------------------------


@dataclass(frozen=True)
class SubmissionPlan:
    """A sweep before it is submitted: which runs are done, under way, or to be queued."""

    plan: Plan
    failed: tuple[Spec, ...]
    """Runs that failed permanently and that nobody is retrying."""
    under_way: tuple[Spec, ...]
    """Runs that are queued, or executed by a job or another process."""
    submission: Submission | None
    """The jobs to queue, not yet on disk; None if there are none."""
    waiting: int
    """The number of runs for which the cluster has no room now."""

    @property
    def queued(self) -> tuple[Spec, ...]:
        """The runs of the jobs to queue."""
        return self.submission.specs if self.submission else ()

    @property
    def hours(self) -> float | None:
        """The estimated hours of all jobs together; None if a run cannot be estimated."""
        seconds = [self.plan.estimates.seconds(spec) for spec in self.queued]
        if self.submission is None or None in seconds:
            return None
        return sum(filter(None, seconds)) / 3600 / self.submission.profile.runs_at_a_time

    def with_queued(self, submission: Submission, arrays: int) -> "SubmissionPlan":
        """Return this plan after the first arrays of `submission` are queued; the rest waits."""
        jobs = sum(submission.chunks()[:arrays])
        queued = replace(submission, bundles=submission.bundles[:jobs]) if jobs else None
        late = len(self.queued) - (len(queued.specs) if queued else 0)
        return replace(self, submission=queued, waiting=self.waiting + late)


def plan_submission(
    sweep: Sweep,
    store: Store,
    profile: Profile,
    limits: Limits,
    queue: Queue | None,
    data: Path | None,
    *,
    retry: bool = False,
) -> SubmissionPlan:
    """Return what `submit` would do; nothing is changed."""
    work = plan(sweep, store, retry=retry, check=True, memory_mb=profile.run_memory_mb)
    busy = _queued(queue) | _leased(store, work.missing)
    under_way = tuple(spec for spec in work.missing + work.failed if spec.key in busy)
    failed = tuple(spec for spec in work.failed if spec.key not in busy)
    missing = [spec for spec in work.missing if spec.key not in busy]
    jobs = bundles(missing, profile, work.estimates.seconds, limits.slots) if missing else []
    room = max(limits.jobs - (len(queue.raw_ids) if queue else 0), 0)
    waiting = sum(map(len, jobs[room:]))
    # Another Python than this one may have other plugins installed.
    own_python = not (profile.python or profile.container)
    plugins = check_plugins({spec.method.name for spec in missing}) if own_python else {}
    submission = None
    if jobs[:room]:
        submission = Submission.new(
            *(store, sweep.name, jobs[:room], limits.max_array_size, profile, data),
            retry=retry,
            plugins=plugins,
        )
    return SubmissionPlan(work, failed, under_way, submission, waiting)


def submit(
    sweep: Sweep,
    store: Store,
    profile: Profile,
    limits: Limits,
    data: Path | None,
    *,
    retry: bool = False,
) -> tuple[SubmissionPlan, list[str]]:
    """Queue what is missing; return the plan as executed and the ids of the arrays.

    A store accepts one submission at a time. Jobs that SLURM holds permanently are replaced, and
    leases of dead jobs are released. Raises UserError if SLURM refuses or does not answer; then
    only what was queued stays in the store.
    """
    with _submission_lock(store) as renew:
        queue = _without_held(_available_queue(store), {spec.key for spec in sweep.specs})
        release_dead_leases(store, sweep.specs)
        renew()
        planned = plan_submission(sweep, store, profile, limits, queue, data, retry=retry)
        renew()
        if planned.submission is None:
            return planned, []
        queued, ids = _queue_what_fits(planned.submission, renew)
    return planned.with_queued(queued, len(ids)), ids


def _queue_what_fits(
    submission: Submission, renew: Callable[[], object]
) -> tuple[Submission, list[str]]:
    """Queue a submission, or its first half, and so on: some limits are not announced."""
    ids = _queue_arrays(submission, renew)
    if ids or len(submission.bundles) == 1:
        return submission, ids
    return _queue_what_fits(submission.with_first_jobs(len(submission.bundles) // 2), renew)


def _queue_arrays(submission: Submission, renew: Callable[[], object]) -> list[str]:
    """Write a submission and queue as many of its arrays as the cluster accepts.

    If it accepts none, the submission is removed. Raises UserError.
    """
    submission.write()
    ids: list[str] = []
    try:
        for chunk in range(len(submission.chunks())):
            ids.append(queue_array(submission, chunk))
            renew()
    except QueueFull:
        pass
    except UserError as error:
        if ids:
            raise UserError(f"{len(ids)} arrays are queued, the rest not: {error}") from error
        raise
    finally:
        if not ids:
            shutil.rmtree(submission.folder, ignore_errors=True)
    return ids


def _available_queue(store: Store) -> Queue:
    """Return the user's jobs on the cluster. Raises ControllerUnavailable."""
    for attempt in range(_QUEUE_ATTEMPTS):
        if (queue := read_queue(store)) is not None:
            return queue
        sleep(2.0**attempt)
    raise ControllerUnavailable(
        "SLURM's controller does not answer squeue, so that it is unknown which runs are queued; "
        "re-run the command when `scontrol ping` says that the controller is up"
    )


def _without_held(queue: Queue, keys: Set[str]) -> Queue:
    """Cancel the jobs of these runs that SLURM holds permanently; return the queue without them."""
    held_jobs = {job for job, specs in queue.runs() if job.held and keys & {s.key for s in specs}}
    for job in held_jobs:
        run("scancel", job.id)
    return replace(queue, jobs=tuple(job for job in queue.jobs if job not in held_jobs))


def _queued(queue: Queue | None) -> set[str]:
    """Return the keys of the runs in queued or running jobs."""
    # A job that is about to end keeps the leases of the runs that it still executes.
    runs = queue.runs() if queue else ()
    return {spec.key for job, specs in runs if job.state != "COMPLETING" for spec in specs}


def _leased(store: Store, specs: Sequence[Spec]) -> set[str]:
    """Return the keys of the runs that a process executes, in a job or elsewhere."""
    attempted = [spec for spec in specs if os.path.exists(store.run_folder(spec.key))]
    if not attempted:
        return set()
    now = server_time(store.root)
    leases = {spec.key: lease.inspect(store.run_folder(spec.key), now) for spec in attempted}
    return {key for key, each in leases.items() if each and not each.expired}


@contextmanager
def _submission_lock(store: Store) -> Iterator[Callable[[], object]]:
    """Hold the store's lock for submissions; the yielded function must be called to renew it."""
    folder, owner = store.root / "submissions", new_attempt_id()
    polls = 0
    while (lock := lease.acquire(folder, owner, _LOCK_SECONDS)) is None:
        if polls == _QUIET_POLLS:
            print("paibench: waiting for another submission to this store", file=sys.stderr)
        polls += 1
        sleep(0.2)
    try:
        yield lock.renew
    finally:
        lock.release()


# -- batch scripts ---------------------------------------------------------------------------------


def script(submission: Submission, chunk: int) -> str:
    """Return the batch script of one array, to read or to submit by hand.

    It has the options and the commands of `queue_array`. submitit's public interface prints a
    script only by submitting it.
    """
    options = {
        name: value
        for name, value in _options(submission, chunk).items()
        if value is not None and value is not False
    }
    lines = [
        f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={shlex.quote(str(value))}"
        for name, value in sorted(options.items())
    ]
    return "\n".join(["#!/bin/bash", "", *lines, "", *_commands(submission, chunk), ""])


def _options(submission: Submission, chunk: int) -> dict[str, Option]:
    """Return the long options of sbatch for one array."""
    profile, jobs = submission.profile, submission.chunks()[chunk]
    return {
        **sbatch_options(profile),
        "job-name": f"{submission.name}-{chunk}",
        "array": f"0-{jobs - 1}%{min(profile.array_parallelism or jobs, jobs)}",
        "output": _log(submission),
        "open-mode": "append",  # a requeued job continues the log of its first start
        "signal": f"USR2@{profile.warning_seconds}",
        "requeue": True,
    }


def _commands(submission: Submission, chunk: int) -> list[str]:
    """Return the lines of shell that a job executes."""
    profile = submission.profile
    # Since SLURM 22.05, srun does not inherit the number of CPUs from sbatch.
    srun = ["srun", "--unbuffered", "--output", _log(submission), f"--cpus-per-task={profile.cpus}"]
    # The shell stays alive during srun: when it dies of scancel's SIGTERM, the exit code of the job
    # says that the job was cancelled.
    return [*profile.setup, f"{shlex.join(srun)} {command(submission, chunk)}", "exit"]


def _log(submission: Submission) -> str:
    return f"{submission.logs}/%A_%a_0_log.out"


def command(submission: Submission, chunk: int) -> str:
    """Return the command of a job as a line of shell."""
    profile = submission.profile
    python = profile.python or shlex.quote(sys.executable)
    # -P: files in the working folder must not be imported as modules.
    words = [profile.container, python, "-P -u -m paibench.slurm.run_job"]
    return " ".join([*filter(None, words), shlex.quote(str(submission.folder)), str(chunk)])


def write_scripts(submission: Submission) -> list[Path]:
    """Write a submission and the script of each of its arrays, to be submitted by hand."""
    submission.write()
    paths = [submission.folder / f"array-{chunk}.sh" for chunk in range(len(submission.chunks()))]
    for chunk, path in enumerate(paths):
        path.write_text(script(submission, chunk))
    return paths


def queue_array(submission: Submission, chunk: int) -> str:
    """Submit one array and return its id.

    A controller that does not answer is tried again. An array whose id was lost is found by its
    name, so that none is queued twice. Raises QueueFull, and UserError with SLURM's message.
    """
    for _ in range(SBATCH_ATTEMPTS):
        try:
            return _submit(submission, chunk)
        except (FailedJobError, FailedSubmissionError) as error:
            message = _message(str(error))
        if is_queue_full(message):
            raise QueueFull(message)
        if not _TRANSIENT.search(message):
            raise UserError(f"sbatch refuses: {message}")
        if array := _find_array(f"{submission.name}-{chunk}"):
            return array
    raise UserError(
        f"SLURM does not accept the jobs ({SBATCH_ATTEMPTS} attempts): {message}; submit again "
        "when `scontrol ping` says that the controller is up"
    )


def _submit(submission: Submission, chunk: int) -> str:
    """Call sbatch once, through submitit's public interface.

    A job must not depend on submitit's pickle of a function: the pickle is named by the id of the
    job, which a failed reply of sbatch loses. Hence `setup` holds our command and ends with `exit`,
    and the function is never called.
    """
    if not shutil.which("srun"):
        raise UserError("srun is not on PATH beside sbatch; submit from where both are")
    options = _options(submission, chunk)
    executor = SlurmExecutor(submission.logs)
    executor.update_parameters(
        job_name=options.pop("job-name"),
        setup=_commands(submission, chunk),
        use_srun=False,
        stderr_to_stdout=True,
        wckey=None,  # some clusters refuse submitit's own
        additional_parameters=options,
    )
    # The exception has the error output of sbatch too.
    with redirect_stderr(StringIO()), login_environment():
        return str(executor.submit(_never_called).job_id)


def _never_called() -> None:
    raise AssertionError("the batch script executes paibench.slurm.run_job instead")


def _find_array(name: str) -> str | None:
    """Return the id of the array with this name, which may take a moment to appear."""
    deadline = time.monotonic() + SEARCH_SECONDS
    while time.monotonic() < deadline:
        listing = run("squeue", "-h", "-a", "-n", name, "-o", "%F")
        if listing and listing.strip():
            return listing.split()[0]
        sleep(1.0)
    return None


def _message(text: str) -> str:
    """Return sbatch's error messages on one line, without its prefixes."""
    messages = [line.partition("error: ")[2] for line in text.splitlines() if "error: " in line]
    return one_line("; ".join(messages) or text)


# -- third-party methods ---------------------------------------------------------------------------

_IMPORT = """
import json, sys
from paibench.methods.core.registry import get
for name in sys.argv[1:]:
    try:
        get(name)
    except BaseException as error:
        print(json.dumps({"paibench": [name, f"{type(error).__name__}: {error}"]}))
"""


def check_plugins(methods: Collection[str]) -> dict[str, str]:
    """Import third-party methods as a worker does; return the sha256 of the code of each.

    A worker has neither the present folder nor most of the environment. Raises UserError if a
    method cannot be imported, as it would fail on every node.
    """
    names = [name for name in sorted(set(methods)) if not is_own(name)]
    if not names:
        return {}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _IMPORT, *names],
            capture_output=True,
            text=True,
            cwd="/",
            env=child_environment(1),
            timeout=_IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"the methods {', '.join(names)} were not imported within {_IMPORT_SECONDS:g} s; "
            "import them by hand to see why"
        ) from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"paibench": ')]
    if lines:
        name, reason = json.loads(lines[0])["paibench"]
        raise UserError(
            f"method {name} cannot be imported where jobs run: {one_line(reason)}; install it in "
            f"{sys.prefix}"
        )
    if done.returncode:
        reason = one_line(done.stderr.strip().rpartition("\n")[2])
        raise UserError(f"the methods {', '.join(names)} cannot be imported: {reason}")
    return {name: digest for name in names if (digest := plugin_digest(name))}

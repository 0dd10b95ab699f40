"""Handing a sweep to a cluster: what is missing and not queued yet becomes a campaign of jobs."""

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from time import sleep
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _make_sbatch_string

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import server_time
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.plan import Plan, plan
from paibench.benchmark.sweeps.sweep import Sweep
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import one_line
from paibench.slurm import queue
from paibench.slurm.cleanup import release_dead_leases
from paibench.slurm.cluster import Limits, is_full
from paibench.slurm.commands import run
from paibench.slurm.packing import bundles
from paibench.slurm.profile import Profile, sbatch_options
from paibench.slurm.queue import Queue
from paibench.slurm.run_job import run_memory
from paibench.slurm.submission import Submission, try_out

TRIES = 3
LOOK_SECONDS = 30.0  # for a job whose submission failed on the way back
_PASSING = re.compile(
    "contact slurm controller|timed out|refused|zero bytes|temporarily|try again|"
    "communication|connect failure|could not make sense|not connected|connection reset|broken pipe",
    re.IGNORECASE,
)


class QueueFull(Exception):
    """The cluster takes no more jobs of ours for now."""


def script(campaign: Submission, chunk: int) -> str:
    """The text of the batch script of one array."""
    given = {key: value for key, value in _parameters(campaign, chunk).items() if value is not None}
    text: str = _make_sbatch_string(
        command=command(campaign, chunk),
        folder=campaign.logs,
        map_count=campaign.chunks()[chunk],
        **given | {"wckey": None},
    )
    return text


def write_scripts(campaign: Submission) -> list[Path]:
    """Put a campaign on disk with the script of each of its arrays, to be submitted by hand."""
    campaign.write()
    paths = [campaign.folder / f"array-{chunk}.sh" for chunk in range(len(campaign.chunks()))]
    for chunk, path in enumerate(paths):
        path.write_text(script(campaign, chunk))
    return paths


def command(campaign: Submission, chunk: int) -> str:
    """What a job does, as a line of shell."""
    profile = campaign.profile
    # -P: files in the present folder are not to be taken for modules
    python = [*([profile.container] if profile.container else [])]
    python += [profile.python or shlex.quote(sys.executable), "-P -u -m paibench.slurm.run_job"]
    return " ".join([*python, shlex.quote(str(campaign.folder)), str(chunk)])


def queue_array(campaign: Submission, chunk: int) -> str:
    """Submit one array; its number.

    A controller that does not answer is tried again, and a job whose number was lost on the way
    is found by its name, so that none is queued twice. Raises NoRoom, and UserError with SLURM's
    own words.
    """
    for turn in range(1, TRIES + 1):
        try:
            return _submit(campaign, chunk)
        except (FailedJobError, FailedSubmissionError) as error:
            said = _words(error)
            if is_full(said):
                raise QueueFull(said) from error
            if not _PASSING.search(said):
                raise UserError(f"sbatch refuses: {said}") from error
            if number := _found(f"{campaign.name}-{chunk}"):
                return number
            if turn == TRIES:
                raise UserError(
                    f"SLURM does not take the jobs ({TRIES} tries): {said}; say submit again when "
                    "`scontrol ping` says that its controller is up"
                ) from error
    raise AssertionError


class _Executor(SlurmExecutor):
    def queue_jobs(self, command: str, jobs: int) -> str:
        self.parameters["map_count"] = jobs
        number: str = self._submit_command(command).job_id
        return number


def _submit(campaign: Submission, chunk: int) -> str:
    if not shutil.which("srun"):
        raise UserError("srun is not on PATH beside sbatch; submit from where both are")
    executor = _Executor(campaign.logs)
    executor.update_parameters(**_parameters(campaign, chunk))
    # what sbatch says is in the exception as well
    with redirect_stderr(StringIO()), _from_no_job():
        return executor.queue_jobs(command(campaign, chunk), campaign.chunks()[chunk])


@contextmanager
def _from_no_job() -> Iterator[None]:
    """Submit as from a login node: what a job or a user sets for others is not for ours."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(("SLURM_", "SRUN_", "SBATCH_")) and name != "SLURM_CONF":
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def _parameters(campaign: Submission, chunk: int) -> dict[str, Any]:
    profile = campaign.profile
    return {
        "job_name": f"{campaign.name}-{chunk}",
        "signal_delay_s": profile.warning_seconds,
        "array_parallelism": profile.array_parallelism or campaign.chunks()[chunk],
        "setup": profile.setup or None,
        "stderr_to_stdout": True,
        "srun_args": [f"--cpus-per-task={profile.cpus}"],  # which it takes from no one since 22.05
        "wckey": None,  # some clusters refuse submitit's own
        "additional_parameters": {**sbatch_options(profile), "requeue": True},
    }


def _found(name: str) -> str | None:
    """The number of the array of this name, which may take a moment to be seen."""
    deadline = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < deadline:
        said = run("squeue", "-h", "-a", "-n", name, "-o", "%F")
        if said and said.strip():
            return said.split()[0]
        time.sleep(1.0)
    return None


def _words(error: Exception) -> str:
    """What sbatch said, without what submitit says around it."""
    lines = str(error).splitlines()
    said = [line.partition("error: ")[2] for line in lines if "error: " in line]
    return one_line("; ".join(said) or str(error))


# submit: Handing a sweep to a cluster: what is missing and not queued yet becomes a campaign of
# jobs.

_TURN_SECONDS = 600.0  # that a step of one submission may take while another waits
_SILENT_TURNS = 15  # looks for one's turn before one says so
_ANSWERS = 3  # times that the controller is asked for the queue


@dataclass(frozen=True)
class SubmissionPlan:
    """A sweep before it is submitted: what is done, under way, and to be queued as which jobs."""

    plan: Plan
    failed: tuple[Spec, ...]
    """Failed for good, and nobody is at them again."""
    under_way: tuple[Spec, ...]
    """Queued, or at work in a job or elsewhere."""
    campaign: Submission | None
    """The jobs to come; None where there are none. Not on disk yet."""
    waiting: int
    """Runs for which the cluster has no room now."""

    @property
    def queued(self) -> tuple[Spec, ...]:
        """The runs of the jobs to come."""
        return self.campaign.specs if self.campaign else ()

    def after(self, taken: Submission, arrays: int) -> "SubmissionPlan":
        """What it has become once so many arrays of `taken` are queued, and the rest waits."""
        room = sum(taken.chunks()[:arrays])
        queued = replace(taken, bundles=taken.bundles[:room]) if room else None
        late = len(self.queued) - (len(queued.specs) if queued else 0)
        return replace(self, campaign=queued, waiting=self.waiting + late)

    @property
    def hours(self) -> float | None:
        """Estimated hours of all jobs together; None where a run is like none before."""
        known = [self.plan.estimates.seconds(spec) for spec in self.queued]
        if self.campaign is None or None in known:
            return None
        at_a_time = self.campaign.profile.runs_at_a_time
        return sum(seconds or 0.0 for seconds in known) / 3600 / at_a_time


def plan_submission(
    sweep: Sweep,
    store: Store,
    profile: Profile,
    limits: Limits,
    there: Queue | None,
    data: Path | None,
    *,
    retry: bool = False,
) -> SubmissionPlan:
    """What submitting would do; nothing is changed. `there` are our jobs on the cluster."""
    work = plan(sweep, store, retry=retry, check=True, memory_mb=run_memory(profile))
    busy = _queued(there) | _claimed(store, work.missing)
    under_way = tuple(spec for spec in work.missing + work.failed if spec.key in busy)
    failed = tuple(spec for spec in work.failed if spec.key not in busy)
    missing = [spec for spec in work.missing if spec.key not in busy]
    jobs = bundles(missing, profile, work.estimates.seconds, limits.slots) if missing else []
    room = _room(limits, there)
    waiting = sum(map(len, jobs[room:]))
    plugins = {} if profile.python or profile.container else try_out(_methods(missing))
    campaign = None
    if jobs[:room]:
        campaign = Submission.new(
            *(store, sweep.name, jobs[:room], limits.max_array_size, profile, data),
            retry=retry,
            plugins=plugins,
        )
    return SubmissionPlan(work, failed, under_way, campaign, waiting)


def submit(
    sweep: Sweep,
    store: Store,
    profile: Profile,
    limits: Limits,
    data: Path | None,
    *,
    retry: bool = False,
) -> tuple[SubmissionPlan, list[str]]:
    """Queue what is missing; what that came to, and the numbers of the arrays.

    Only one submission to a store is made at a time. Jobs that are held for ever are replaced,
    claims of jobs that are gone are freed. Raises UserError where SLURM does not answer or refuses;
    then nothing of ours is left behind that was not queued.
    """
    with _submission_lock(store) as beat:
        there = _without_held(_ask_queue(store), {spec.key for spec in sweep.specs})
        release_dead_leases(store, sweep.specs)
        beat()
        found = plan_submission(sweep, store, profile, limits, there, data, retry=retry)
        beat()
        if found.campaign is None:
            return found, []
        queued, numbers = _queue_what_fits(found.campaign, beat)
    return found.after(queued, len(numbers)), numbers


def _queue_what_fits(
    campaign: Submission, beat: Callable[[], object]
) -> tuple[Submission, list[str]]:
    """Queue a campaign, or the first half of it, or of that: there are limits that nobody tells."""
    numbers = _queue_all(campaign, beat)
    if numbers or len(campaign.bundles) == 1:
        return campaign, numbers
    return _queue_what_fits(campaign.first(len(campaign.bundles) // 2), beat)


def _queue_all(campaign: Submission, beat: Callable[[], object]) -> list[str]:
    """Put a campaign on disk and as many of its arrays as there is room for into the queue.

    Where that is none, it is not kept. Raises UserError.
    """
    campaign.write()
    numbers: list[str] = []
    try:
        for chunk in range(len(campaign.chunks())):
            numbers.append(queue_array(campaign, chunk))
            beat()
    except QueueFull:
        pass
    except UserError as error:
        if numbers:
            raise UserError(f"{len(numbers)} arrays are queued, the rest not: {error}") from error
        raise
    finally:
        if not numbers:
            shutil.rmtree(campaign.folder, ignore_errors=True)
    return numbers


class ControllerUnavailable(UserError):
    """SLURM's controller does not answer; it may do so later."""


def _ask_queue(store: Store) -> Queue:
    """Our jobs on the cluster. Raises NoAnswer."""
    for turn in range(_ANSWERS):
        if (there := queue.look(store)) is not None:
            return there
        sleep(2.0**turn)
    raise ControllerUnavailable(
        "SLURM's controller does not answer squeue, so that what is queued is not known; say the "
        "same again when `scontrol ping` says that it is up"
    )


def _without_held(there: Queue, keys: Set[str]) -> Queue:
    """The queue after jobs for these runs that SLURM gave up are cancelled, to be replaced."""
    held = {job for job, specs in there.runs() if job.held and keys & {s.key for s in specs}}
    for job in held:
        run("scancel", job.shown)
    return Queue(there.store, tuple(job for job in there.jobs if job not in held), there.others)


def _queued(there: Queue | None) -> set[str]:
    """The runs of jobs that are to do them; a job that is about to end leaves its claims."""
    runs = there.runs() if there else ()
    return {spec.key for job, specs in runs if job.state != "COMPLETING" for spec in specs}


def _claimed(store: Store, specs: Sequence[Spec]) -> set[str]:
    """The keys of runs that somebody works on, in whatever way."""
    tried = [spec for spec in specs if os.path.exists(store.run_folder(spec.key))]
    if not tried:
        return set()
    now = server_time(store.root)
    held = {spec.key: lease.inspect(store.run_folder(spec.key), now) for spec in tried}
    return {key for key, claim in held.items() if claim and not claim.expired}


def _room(limits: Limits, there: Queue | None) -> int:
    """How many more jobs we may queue."""
    most = limits.max_jobs if limits.max_submit is None else min(limits.max_jobs, limits.max_submit)
    return max(most - (len(there.numbers) if there else 0), 0)


def _methods(specs: Sequence[Spec]) -> set[str]:
    return {spec.method.name for spec in specs}


@contextmanager
def _submission_lock(store: Store) -> Iterator[Callable[[], object]]:
    """Have the submissions of a store for oneself, while what is yielded is called often enough."""
    folder, name = store.root / "submissions", new_attempt_id()
    waited = 0
    while (held := lease.acquire(folder, name, _TURN_SECONDS)) is None:
        if waited == _SILENT_TURNS:
            print("paibench: another submission to this store is made; waiting", file=sys.stderr)
        waited += 1
        sleep(0.2)
    try:
        yield held.renew
    finally:
        held.release()

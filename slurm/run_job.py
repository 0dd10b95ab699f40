"""The work of one job: its bundle, less what is done, by a pool of workers."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paibench.benchmark.execution.pool import (
    BREAKER_LIMIT,
    CircuitBreaker,
    CircuitBroken,
    Event,
    Pool,
)
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.names import SlurmJob, current_slurm_job, new_attempt_id, slurm_job_of
from paibench.benchmark.store.store import Store
from paibench.slurm.cleanup import release_dead_leases
from paibench.slurm.commands import error_of, run
from paibench.slurm.job_state import JobEnd, end_of_running_job, own_number, record_interruption
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission, changed, present_code

# giving_up: Whether the rest of a campaign is worth trying, judged by how its first runs ended.


def circuit_broken(campaign: Submission, store: Store) -> str | None:
    """Why the rest of a campaign is given up; None while there is hope.

    The first job to find it says so in the campaign and cancels the jobs that wait.
    """
    if reason := campaign.stopped:
        return reason
    listing = store.listing()
    keys = {spec.key: spec for spec in campaign.specs}
    last = [(store.last_failure(key) or {}, keys[key]) for key in keys.keys() & listing.failed]
    notes = [pair for pair in last if str(pair[0].get("finished", "")) >= campaign.begun]
    if not keys.keys().isdisjoint(listing.done):  # then only what a store cannot take is for all
        notes = [pair for pair in notes if pair[0].get("cause") == "storage"]
    breaker = CircuitBreaker.of(campaign.specs)
    try:
        for note, spec in sorted(notes, key=lambda pair: str(pair[0].get("reason"))):
            cause, reason = str(note.get("cause", "error")), str(note.get("reason", "?"))
            breaker.check(Event(spec, "failed", 0.0, cause, reason))
    except CircuitBroken as broken:
        return _give_up(campaign, str(broken))
    if len(broken_jobs := campaign.broken) >= BREAKER_LIMIT and listing.done.isdisjoint(keys):
        return _give_up(campaign, f"{len(broken_jobs)} jobs tried none of theirs: {broken_jobs[0]}")
    return None


def _give_up(campaign: Submission, reason: str) -> str:
    campaign.stop(reason)
    for chunk in range(len(campaign.chunks())):
        run("scancel", "--state=PENDING", f"--name={campaign.name}-{chunk}")
    return reason


# leave: Leaving a job early: why, what is noted of the runs that were at work, and how to end.

AGAIN = 75  # EX_TEMPFAIL: not done, and nobody's fault
_GRACE = 900.0  # seconds after which one who waits to be killed gives up waiting


def interrupt(
    store: Store, left: Sequence[tuple[Spec, str]], *, of_time: bool, got_on: bool = True
) -> int:
    """Note why the runs in `left` (with their attempts) were interrupted; the exit status.

    After the warning before the time limit the job asks to be requeued, unless it has not even
    begun a run. One that is preempted waits to be killed, since SLURM does not requeue what ends
    by itself.
    """
    restart = (current_slurm_job() or SlurmJob(0, 0)).restart
    fate = (
        JobEnd("limit", "its job reached its time limit")
        if of_time
        else end_of_running_job(restart)
    )
    for spec, attempt in left:
        record_interruption(store, spec, attempt, fate)
    print(f"paibench: left with {len(left)} runs unfinished: {fate.reason}", file=sys.stderr)
    sys.stderr.flush()
    if of_time and got_on:
        return _requeue()
    if fate.cause == "preempted":
        time.sleep(_GRACE)
    return AGAIN


def _requeue() -> int:
    """Put this job back into the queue; where that is refused, the next `submit` does it."""
    if words := error_of("scontrol", "requeue", own_number(), seconds=60):
        print(f"paibench: not requeued: {words}", file=sys.stderr)
        return AGAIN
    return 0


# work: The work of one job: its bundle, less what is done, by a pool of workers.

PATIENCE = 120.0  # seconds to wait for runs that others are at, rather than to end without them
GRACE = 20.0  # seconds to save in; SLURM kills 30 after SIGTERM where nobody changed that
CODE_SECONDS = 2.0  # between looks whether the code is still the one that was submitted


class Told(Protocol):
    """What the process was told by signals, see `job.Notices`."""

    to_end: bool
    of_time: bool

    def leaving(self) -> bool: ...


def work(folder: Path, chunk: int, index: int, told: Told) -> int:
    """Do the runs of the job at `index` of an array; the exit status.

    0: each has a record, or is another's. 1: some failed. 2: the code is not the one that was
    submitted. 75: left early. Raises UserError where campaign or store cannot be read.
    """
    campaign = Submission.read(folder)
    store = Store.open(campaign.store, create=False)
    bundle = campaign.bundle(chunk, index)
    if reason := _other_code(campaign, bundle):
        return _refuse(store, bundle, reason)
    missing = _missing(campaign, store, bundle)
    print(f"{len(bundle)} runs, {len(bundle) - len(missing)} already there", flush=True)
    if not missing:
        return 0
    if reason := circuit_broken(campaign, store):
        print(f"paibench: given up: {reason}", file=sys.stderr)
        return 1
    release_dead_leases(store, missing)
    pool = Pool(store, _settings(campaign), told.leaving, _SameCode(campaign, bundle))
    ended = failed = 0
    try:
        with closing(pool.run(missing)) as events:
            for event in events:
                ended += 1
                failed += event.outcome == "failed"
                _say(event)
    except CircuitBroken as broken:
        print(f"paibench: stopped: {broken}", file=sys.stderr)
        campaign.note_broken(new_attempt_id(), str(broken))
        circuit_broken(campaign, store)
        return 1
    rest = _missing(campaign, store, missing)
    if told.leaving() and rest:
        return interrupt(
            store, pool.interrupted, of_time=told.of_time, got_on=bool(ended or pool.interrupted)
        )
    if rest and (reason := _other_code(campaign, bundle)):
        return _refuse(store, rest, reason)
    if failed:
        circuit_broken(campaign, store)
    return 1 if failed else 0


def _missing(campaign: Submission, store: Store, bundle: Sequence[Spec]) -> list[Spec]:
    """The runs of a bundle that are neither done nor, by now, failed for good."""
    there = store.listing()
    failed = [spec.key for spec in bundle if spec.key in there.failed]
    final = {key for key in failed if _is_final(campaign, store, key)}
    return [spec for spec in bundle if spec.key not in there.done | final]


def _is_final(campaign: Submission, store: Store, key: str) -> bool:
    """Whether a failed run is not to be tried; with `retry`, only what this very job tried."""
    last, job = (
        slurm_job_of(str((store.last_failure(key) or {}).get("attempt"))),
        current_slurm_job(),
    )
    ours = last is not None and job is not None and last.id == job.id
    return is_final(store, key, run_memory(campaign.profile)) and (ours or not campaign.retry)


def run_memory(profile: Profile) -> int:
    """MiB that each of the runs at work in one job may hold."""
    return profile.memory_mb // profile.runs_at_a_time


def _settings(campaign: Submission) -> RunSettings:
    profile = campaign.profile
    return RunSettings(
        jobs=profile.runs_at_a_time,
        threads=profile.threads,
        device=profile.device,
        data=campaign.data,
        checkpoint_seconds=profile.checkpoint_seconds,
        trusted=profile.trusted,
        search_seconds=profile.search_seconds,
        memory_mb=run_memory(profile),
        grace_seconds=GRACE,
        wait_seconds=PATIENCE,
    )


def _other_code(campaign: Submission, bundle: Sequence[Spec]) -> str | None:
    """How the code here differs from what was submitted, where it does."""
    now, then = present_code(), campaign.code
    if now["sha256"] != then["sha256"]:
        versions = f"{then['version']} then, {now['version']} now"
        return f"the code of paibench changed after this was submitted ({versions}); submit again"
    return changed(campaign.plugins, {spec.method.name for spec in bundle})


@dataclass
class _SameCode:
    """Whether the code is still the one that was submitted, as seen some seconds ago at most."""

    campaign: Submission
    bundle: Sequence[Spec]
    _looked: float = -CODE_SECONDS
    _same: bool = True

    def __call__(self) -> bool:
        if self._same and time.monotonic() - self._looked > CODE_SECONDS:
            self._same = not _other_code(self.campaign, self.bundle)
            self._looked = time.monotonic()
        return self._same


def _refuse(store: Store, bundle: Sequence[Spec], reason: str) -> int:
    """Note why none of these is done."""
    print(f"paibench: {reason}", file=sys.stderr)
    for spec in bundle:
        if not store.is_done(spec.key):
            failures.record_failure(store, spec, new_attempt_id(), "input", reason)
    return 2


def _say(event: Event) -> None:
    why = f": {event.cause}: {event.reason}" if event.reason else ""
    print(f"{event.outcome} {event.spec} ({event.seconds:.1f} s){why}", flush=True)


# job: What runs on the node: `python -m paibench.slurm.run_job CAMPAIGN CHUNK`, one job of an
# array.


@dataclass
class Signals:
    """What this process was told by signals."""

    to_end: bool = False
    of_time: bool = False

    def listen(self) -> None:
        """Heed the signals from now on."""
        signal.signal(signal.SIGUSR2, self._time)
        signal.signal(signal.SIGTERM, self._end)

    def leaving(self) -> bool:
        """Whether the job is to be left."""
        return self.to_end or self.of_time

    def _time(self, *_: Any) -> None:
        self.of_time = True

    def _end(self, *_: Any) -> None:
        self.to_end = True


def main() -> int:
    """Do the runs of one job; the exit status."""
    notices = Signals()
    notices.listen()  # before the imports below: a signal that is not heeded kills
    parser = argparse.ArgumentParser(prog="paibench.slurm.run_job")
    parser.add_argument("campaign", type=Path)
    parser.add_argument("chunk", type=int)
    given = parser.parse_args()
    from paibench.benchmark.execution.process_tree import become_subreaper, kill_descendants
    from paibench.methods.core.registry import UserError

    become_subreaper()
    try:
        return work(given.campaign, given.chunk, int(os.environ["SLURM_ARRAY_TASK_ID"]), notices)
    except UserError as error:
        print(f"paibench: {error}", file=sys.stderr)
        return 2
    finally:
        kill_descendants()


if __name__ == "__main__":
    sys.exit(main())

"""One job of an array, on its node: `python -m paibench.slurm.run_job SUBMISSION CHUNK`.

It executes a bundle of runs with a pool of workers. SLURM warns it by SIGUSR2 before the time
limit and by SIGTERM when it must end; then the workers save, and the job is requeued or ends.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paibench.benchmark.execution.pool import (
    BREAKER_LIMIT,
    CircuitBreaker,
    CircuitBroken,
    Event,
    Pool,
)
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import failures
from paibench.benchmark.store.names import SlurmJob, current_slurm_job, new_attempt_id, slurm_job_of
from paibench.benchmark.store.store import Store
from paibench.slurm.cleanup import release_dead_leases
from paibench.slurm.commands import error_of, run
from paibench.slurm.job_state import (
    TIME_LIMIT,
    end_of_running_job,
    own_job_id,
    record_interruption,
)
from paibench.slurm.submission import Submission

PATIENCE = 120.0  # seconds to wait for runs leased by other jobs
GRACE = 20.0  # seconds for saving; by default SLURM sends SIGKILL 30 s after SIGTERM
CODE_SECONDS = 2.0  # between checks that the code is still the submitted one
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: not done, and not failed
_PREEMPTION_SECONDS = 900.0  # to wait for SIGKILL after a preemption


@dataclass
class Signals:
    """The signals that this process has received."""

    time_limit: bool = False
    terminate: bool = False

    def listen(self) -> None:
        """Handle the signals from now on."""
        # The handlers only set flags: an exception could hit any line, even within a save.
        signal.signal(signal.SIGUSR2, self._set_time_limit)
        signal.signal(signal.SIGTERM, self._set_terminate)

    def should_stop(self) -> bool:
        """Return whether the job must end early."""
        return self.time_limit or self.terminate

    def _set_time_limit(self, *_: Any) -> None:
        self.time_limit = True

    def _set_terminate(self, *_: Any) -> None:
        self.terminate = True


def main() -> int:
    """Execute the runs of one job; return the exit status."""
    signals = Signals()
    signals.listen()  # before the imports below, which take long: an unhandled signal kills
    parser = argparse.ArgumentParser(prog="paibench.slurm.run_job")
    parser.add_argument("submission", type=Path)
    parser.add_argument("chunk", type=int)
    arguments = parser.parse_args()
    from paibench.benchmark.execution.process_tree import become_subreaper, kill_descendants
    from paibench.methods.core.registry import UserError

    become_subreaper()
    try:
        index = int(os.environ["SLURM_ARRAY_TASK_ID"])
        return run_bundle(arguments.submission, arguments.chunk, index, signals)
    except UserError as error:
        print(f"paibench: {error}", file=sys.stderr)
        return 2
    finally:
        kill_descendants()


def run_bundle(folder: Path, chunk: int, index: int, signals: Signals) -> int:
    """Execute the runs of the job at `index` of an array; return the exit status.

    0: each run has a record, or belongs to another process. 1: some failed. 2: the code is not
    the submitted one. 75: interrupted. Raises UserError if submission or store cannot be read.
    """
    submission = Submission.read(folder)
    store = Store.open(submission.store, create=False)
    bundle = submission.bundle(chunk, index)
    code = _CodeCheck(submission, bundle)
    if reason := code.changed():
        return _refuse(store, bundle, reason)
    missing = _missing(submission, store, bundle)
    print(f"{len(bundle)} runs, {len(bundle) - len(missing)} already done", flush=True)
    if not missing:
        return 0
    if reason := circuit_broken(submission, store):
        print(f"paibench: aborted: {reason}", file=sys.stderr)
        return 1
    release_dead_leases(store, missing)
    settings = replace(
        submission.profile.run_settings(submission.data),
        grace_seconds=GRACE,
        wait_seconds=PATIENCE,
    )
    pool = Pool(store, settings, signals.should_stop, code.is_unchanged)
    ended = failed = 0
    try:
        with closing(pool.run(missing)) as events:
            for event in events:
                ended += 1
                failed += event.outcome == "failed"
                _print(event)
    except CircuitBroken as broken:
        print(f"paibench: stopped: {broken}", file=sys.stderr)
        submission.record_failed_job(new_attempt_id(), str(broken))
        circuit_broken(submission, store)
        return 1
    rest = _missing(submission, store, missing)
    if signals.should_stop() and rest:
        started = bool(ended or pool.interrupted)
        return interrupt(store, pool.interrupted, time_limit=signals.time_limit, started=started)
    if rest and (reason := code.changed()):
        return _refuse(store, rest, reason)
    if failed:
        circuit_broken(submission, store)
    return 1 if failed else 0


def _missing(submission: Submission, store: Store, bundle: Sequence[Spec]) -> list[Spec]:
    """Return the runs of a bundle that are neither done nor permanently failed by now."""
    listing = store.listing()
    failed = [spec.key for spec in bundle if spec.key in listing.failed]
    final = {key for key in failed if _is_final(submission, store, key)}
    return [spec for spec in bundle if spec.key not in listing.done | final]


def _is_final(submission: Submission, store: Store, key: str) -> bool:
    """Return whether a failed run is not to be retried."""
    final = failures.is_final(store, key, submission.profile.run_memory_mb)
    if not submission.retry:
        return final
    # A retry ignores what failed before this job, but a requeued job does not retry its own.
    last = slurm_job_of(str((store.last_failure(key) or {}).get("attempt")))
    job = current_slurm_job()
    return final and last is not None and job is not None and last.id == job.id


@dataclass
class _CodeCheck:
    """Whether the code on this node is still the code that was submitted."""

    submission: Submission
    bundle: Sequence[Spec]
    _checked: float = -CODE_SECONDS
    _unchanged: bool = True

    def changed(self) -> str | None:
        """Return how the code differs from the submitted one; None if it does not."""
        return self.submission.changed_code({spec.method.name for spec in self.bundle})

    def is_unchanged(self) -> bool:
        """Return whether the code was unchanged at most `CODE_SECONDS` ago."""
        if self._unchanged and time.monotonic() - self._checked > CODE_SECONDS:
            self._unchanged = not self.changed()
            self._checked = time.monotonic()
        return self._unchanged


def _refuse(store: Store, bundle: Sequence[Spec], reason: str) -> int:
    """Note for the missing runs why they are not executed."""
    print(f"paibench: {reason}", file=sys.stderr)
    for spec in bundle:
        if not store.is_done(spec.key):
            failures.record_failure(store, spec, new_attempt_id(), "input", reason)
    return 2


def _print(event: Event) -> None:
    reason = f": {event.cause}: {event.reason}" if event.reason else ""
    print(f"{event.outcome} {event.spec} ({event.seconds:.1f} s){reason}", flush=True)


# -- interruptions ---------------------------------------------------------------------------------


def interrupt(
    store: Store, runs: Sequence[tuple[Spec, str]], *, time_limit: bool, started: bool = True
) -> int:
    """Note why these runs, given with their attempts, were interrupted; return the exit status.

    At its time limit a job asks to be requeued, if it has started any run.
    """
    end = (
        TIME_LIMIT
        if time_limit
        else end_of_running_job((current_slurm_job() or SlurmJob(0, 0)).restart)
    )
    for spec, attempt in runs:
        record_interruption(store, spec, attempt, end)
    print(f"paibench: ended with {len(runs)} runs unfinished: {end.reason}", file=sys.stderr)
    sys.stderr.flush()
    if time_limit and started:
        return _requeue()
    if end.cause == "preempted":
        # SLURM does not requeue a preempted job that ends by itself, so wait to be killed.
        time.sleep(_PREEMPTION_SECONDS)
    return EXIT_INTERRUPTED


def _requeue() -> int:
    """Requeue this job; if SLURM refuses, the next `submit` queues its runs."""
    if error := error_of("scontrol", "requeue", own_job_id(), seconds=60):
        print(f"paibench: not requeued: {error}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


# -- the circuit breaker of a submission -----------------------------------------------------------


def circuit_broken(submission: Submission, store: Store) -> str | None:
    """Return why the rest of a submission is not worth trying; None if it is.

    The first job that finds a reason records it and cancels the pending jobs.
    """
    if reason := submission.aborted:
        return reason
    listing = store.listing()
    specs = {spec.key: spec for spec in submission.specs}
    last = [(store.last_failure(key) or {}, specs[key]) for key in specs.keys() & listing.failed]
    # Failures before this submission do not count: their reason may have been corrected.
    notes = [pair for pair in last if str(pair[0].get("finished", "")) >= submission.created]
    any_done = not specs.keys().isdisjoint(listing.done)
    if any_done:  # after a success, only a store that cannot be written concerns all runs
        notes = [pair for pair in notes if pair[0].get("cause") == "storage"]
    breaker = CircuitBreaker.of(submission.specs)
    try:
        for note, spec in sorted(notes, key=lambda pair: str(pair[0].get("reason"))):
            cause, reason = str(note.get("cause", "error")), str(note.get("reason", "?"))
            breaker.check(Event(spec, "failed", 0.0, cause, reason))
    except CircuitBroken as broken:
        return _abort(submission, str(broken))
    if len(failed_jobs := submission.failed_jobs) >= BREAKER_LIMIT and not any_done:
        return _abort(submission, f"{len(failed_jobs)} jobs started no run: {failed_jobs[0]}")
    return None


def _abort(submission: Submission, reason: str) -> str:
    submission.abort(reason)
    for chunk in range(len(submission.chunks())):
        run("scancel", "--state=PENDING", f"--name={submission.name}-{chunk}")
    return reason


if __name__ == "__main__":
    sys.exit(main())

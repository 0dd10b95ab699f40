"""The work of one job: its bundle, less what is done, by a pool of workers."""

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paibench.benchmark import failures
from paibench.benchmark.events import Broken, Event
from paibench.benchmark.failures import is_final
from paibench.benchmark.naming import attempt_name, job_of, this_job
from paibench.benchmark.pool import Pool, Settings
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.slurm.campaign import Campaign, present_code
from paibench.slurm.giving_up import given_up
from paibench.slurm.leave import leave
from paibench.slurm.plugins import changed
from paibench.slurm.profile import Profile
from paibench.slurm.stale import free_stale_claims

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
    campaign = Campaign.read(folder)
    store = Store.open(campaign.store, create=False)
    bundle = campaign.bundle(chunk, index)
    if reason := _other_code(campaign, bundle):
        return _refuse(store, bundle, reason)
    missing = _missing(campaign, store, bundle)
    print(f"{len(bundle)} runs, {len(bundle) - len(missing)} already there", flush=True)
    if not missing:
        return 0
    if reason := given_up(campaign, store):
        print(f"paibench: given up: {reason}", file=sys.stderr)
        return 1
    free_stale_claims(store, missing)
    pool = Pool(store, _settings(campaign), told.leaving, _SameCode(campaign, bundle))
    ended = failed = 0
    try:
        with closing(pool.run(missing)) as events:
            for event in events:
                ended += 1
                failed += event.outcome == "failed"
                _say(event)
    except Broken as broken:
        print(f"paibench: stopped: {broken}", file=sys.stderr)
        campaign.note_broken(attempt_name(), str(broken))
        given_up(campaign, store)
        return 1
    rest = _missing(campaign, store, missing)
    if told.leaving() and rest:
        return leave(store, pool.left, of_time=told.of_time, got_on=bool(ended or pool.left))
    if rest and (reason := _other_code(campaign, bundle)):
        return _refuse(store, rest, reason)
    if failed:
        given_up(campaign, store)
    return 1 if failed else 0


def _missing(campaign: Campaign, store: Store, bundle: Sequence[Spec]) -> list[Spec]:
    """The runs of a bundle that are neither done nor, by now, failed for good."""
    there = store.listing()
    failed = [spec.key for spec in bundle if spec.key in there.failed]
    final = {key for key in failed if _is_final(campaign, store, key)}
    return [spec for spec in bundle if spec.key not in there.done | final]


def _is_final(campaign: Campaign, store: Store, key: str) -> bool:
    """Whether a failed run is not to be tried; with `retry`, only what this very job tried."""
    last, job = job_of(str((store.last_failure(key) or {}).get("attempt"))), this_job()
    ours = last is not None and job is not None and last.id == job.id
    return is_final(store, key, run_memory(campaign.profile)) and (ours or not campaign.retry)


def run_memory(profile: Profile) -> int:
    """MiB that each of the runs at work in one job may hold."""
    return profile.memory_mb // profile.runs_at_a_time


def _settings(campaign: Campaign) -> Settings:
    profile = campaign.profile
    return Settings(
        jobs=profile.runs_at_a_time,
        threads=profile.threads,
        device=profile.device,
        data=campaign.data,
        checkpoint_seconds=profile.checkpoint_seconds,
        trusted=profile.trusted,
        search_seconds=profile.search_seconds,
        memory_mb=run_memory(profile),
        grace=GRACE,
        patience=PATIENCE,
    )


def _other_code(campaign: Campaign, bundle: Sequence[Spec]) -> str | None:
    """How the code here differs from what was submitted, where it does."""
    now, then = present_code(), campaign.code
    if now["sha256"] != then["sha256"]:
        versions = f"{then['version']} then, {now['version']} now"
        return f"the code of paibench changed after this was submitted ({versions}); submit again"
    return changed(campaign.plugins, {spec.method.name for spec in bundle})


@dataclass
class _SameCode:
    """Whether the code is still the one that was submitted, as seen some seconds ago at most."""

    campaign: Campaign
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
            failures.note(store, spec, attempt_name(), "input", reason)
    return 2


def _say(event: Event) -> None:
    why = f": {event.cause}: {event.reason}" if event.reason else ""
    print(f"{event.outcome} {event.spec} ({event.seconds:.1f} s){why}", flush=True)

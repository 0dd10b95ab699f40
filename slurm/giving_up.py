"""Whether the rest of a campaign is worth trying, judged by how its first runs ended."""

from paibench.benchmark.events import BREAKER, Breaker, Broken, Event
from paibench.benchmark.store import Store
from paibench.slurm.ask import ask
from paibench.slurm.campaign import Campaign


def given_up(campaign: Campaign, store: Store) -> str | None:
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
    breaker = Breaker.of(campaign.specs)
    try:
        for note, spec in sorted(notes, key=lambda pair: str(pair[0].get("reason"))):
            cause, reason = str(note.get("cause", "error")), str(note.get("reason", "?"))
            breaker.watch(Event(spec, "failed", 0.0, cause, reason))
    except Broken as broken:
        return _give_up(campaign, str(broken))
    if len(broken_jobs := campaign.broken) >= BREAKER and listing.done.isdisjoint(keys):
        return _give_up(campaign, f"{len(broken_jobs)} jobs tried none of theirs: {broken_jobs[0]}")
    return None


def _give_up(campaign: Campaign, reason: str) -> str:
    campaign.stop(reason)
    for chunk in range(len(campaign.chunks())):
        ask("scancel", "--state=PENDING", f"--name={campaign.name}-{chunk}")
    return reason

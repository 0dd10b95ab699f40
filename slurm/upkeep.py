"""Clearing campaigns whose jobs are all over."""

import shutil
from collections.abc import Iterator

from paibench.benchmark.commit import server_time
from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.methods.registry import UserError
from paibench.slurm import queue
from paibench.slurm.ask import here
from paibench.slurm.campaign import Campaign


def remove_old_campaigns(store: Store, older: float) -> int:
    """Remove the folders of campaigns that are `older` seconds old and have no job left; how many.

    Nothing is removed where SLURM does not say which jobs there are. Logs go with their campaigns.
    """
    there = queue.look(store, everybody=True) if here() else None
    if there is None:
        return 0
    alive = {campaign.folder for campaign, _ in there.campaigns.values()}
    now, removed = server_time(store.root), 0
    for path in (store.root / "submissions").glob("*-*/manifest.json"):
        if path.parent not in alive and now - path.stat().st_mtime > older:
            shutil.rmtree(path.parent, ignore_errors=True)
            removed += 1
    return removed


def asked_specs(store: Store) -> Iterator[Spec]:
    """The runs of all campaigns of a store, each once."""
    seen: set[str] = set()
    for path in sorted((store.root / "submissions").glob("*-*/manifest.json")):
        try:
            specs = Campaign.read(path.parent).specs
        except UserError:  # it tells of nothing that could be freed
            continue
        for spec in specs:
            if spec.key not in seen:
                seen.add(spec.key)
                yield spec

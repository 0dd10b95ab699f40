"""Waiting for a sweep on a cluster: what becomes missing meanwhile is submitted."""

from dataclasses import replace
from time import sleep

import typer

from paibench.benchmark.store import Store
from paibench.commands.handover import Request, answer, hand_over
from paibench.slurm.queue import look
from paibench.slurm.submit import NoAnswer, Outlook

FIRST_LOOK, LATER_LOOKS = 1.0, 20.0  # seconds between looks; each wait is twice the last at most
BARREN = 3  # submissions without a new record after which no other is made
SILENT = 10  # looks in a row that SLURM does not answer, after which waiting is over


def wait(asked: Request) -> int:
    """Submit what becomes missing until each run is done or failed for good; the exit status.

    Not for ever: after some submissions in a row that came to no new record, the rest is left to
    the user. Raises UserError where SLURM does not answer for long.
    """
    again, pause = replace(asked, retry=False), FIRST_LOOK
    done, barren = -1, 0
    while True:
        sleep(pause)
        if barren >= BARREN and _would_submit(again):
            typer.echo(
                f"paibench: {barren} submissions in a row gave no new record, and no other is "
                "made; `paibench status` says why",
                err=True,
            )
            return 1
        found, numbers = _look(again)
        if numbers:
            answer(again, found, numbers)
            barren = 0 if len(found.plan.done) > done else barren + 1
            done = len(found.plan.done)
        if not (found.under_way or found.queued or found.waiting):
            counts = f"{len(found.plan.done)} done, {len(found.failed)} failed for good"
            typer.echo(f"{asked.sweep.name}: {counts}", err=True)
            return 1 if found.failed else 0
        pause = FIRST_LOOK if numbers else min(2 * pause, LATER_LOOKS)


def _would_submit(asked: Request) -> bool:
    """Whether anything is missing that is not under way; where SLURM is silent, not yet."""
    store = Store.open(asked.root)
    return look(store) is not None and asked.outlook(store).campaign is not None


def _look(asked: Request) -> tuple[Outlook, list[str]]:
    """Submit what is missing now; a controller that is started anew will answer again."""
    for turn in range(1, SILENT + 1):
        try:
            return hand_over(asked)
        except NoAnswer as error:
            if turn == SILENT:
                raise
            typer.echo(f"paibench: {error}", err=True)
            sleep(LATER_LOOKS)
    raise AssertionError

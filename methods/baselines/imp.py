"""Iterative magnitude pruning (IMP): train, prune the smallest weights, rewind, repeat.

Paper: Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019.

Level 0 is the dense run. Each round prunes the smallest |w| of the remaining weights after
training, over all layers at once; the last round ends at exactly the requested density, and the
harness trains its ticket.

The default rewinds to initialization, as in the paper. Rewinding to a later epoch is Frankle et al.
2020 ("Linear Mode Connectivity and the Lottery Ticket Hypothesis"); learning-rate rewinding and
fine-tuning are Renda et al. 2020 ("Comparing Rewinding and Fine-tuning in Neural Network
Pruning"). Momentum restarts in each round; learning rate and data order are those of the step that
training rewinds to.
"""

from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.baselines.dense import dense_state, rewind_step, state_of, train_from
from paibench.methods.baselines.magnitude import lamp
from paibench.methods.core.mask import Mask, Weights, full, keep_top, num_kept, prunable, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.supermasks.supermask import cache_name
from paibench.methods.training.services import State

# a round is a whole training, so that a last round below this fraction joins the one before it
SLACK = 0.1


def imp(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    rate: Annotated[float, "(0, 1)"] = 0.2,
    rounds: Annotated[int | None, "[1, inf)"] = None,
    after: Literal["rewind", "rewind_weights", "lr_rewind", "finetune"] = "rewind",
    rewind_epoch: Annotated[float, "[0, inf)"] = 0.0,
    counts: Literal["exact", "authors"] = "exact",
    ignore_last: bool = False,
    score: Literal["magnitude", "lamp"] = "magnitude",
) -> Scores | Ticket:
    """Return the order of elimination as scores, with the state that training rewinds to.

    The search trains once per round, and once more up to `rewind_epoch`. Runs that differ only in
    density share these trainings; with `rounds` they share only the dense run.

    Options:
        rate: the fraction of the remaining weights that a round prunes. A last round of less
            than a tenth of a round is not run; the round before it prunes the difference.
        rounds: the number of rounds, each of which prunes the same fraction, instead of `rate`;
            1 is one-shot pruning.
        after: what follows pruning. `rewind` resets all parameters and buffers to their values
            at `rewind_epoch`; `rewind_weights` only the prunable weights; `lr_rewind` keeps the
            trained values and repeats the learning rates from `rewind_epoch` on; `finetune` does
            so for as many steps at the last learning rate.
        rewind_epoch: the epoch of the dense run that training rewinds to, rounded to a step; 0 is
            initialization.
        counts: a round prunes n = ceil(rate * remaining) weights (`exact`) or n + 1 (`authors`,
            as the authors' threshold does). The last round ends at the density in both cases.
        ignore_last: never prune the last layer, which still counts towards the density
            (the authors do so in LeNets and VGGs).
        score: rank the remaining weights by their absolute value (`magnitude`), or by their LAMP
            score within the layer (`lamp`, see `magnitude`).

    Raises UserError for options that are out of range or exclude each other, Diverged if a
    training diverges, and ValueError if a trained weight is NaN.
    """
    weights = prunable(net)
    target = num_kept(density, total(weights))
    step = rewind_step(task, rewind_epoch, "imp")
    # the authors keep |w| above entry n (from 0) of the sorted vector, which prunes n + 1
    extra = 1 if counts == "authors" else 0
    levels, pace = _levels(total(weights), target, rate, rounds, extra)
    unpruned = _last(weights, target) if ignore_last else None
    scores = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
    # the dense ticket needs no training in the search
    if target == total(weights):
        return Scores(scores)

    options = (pace, counts, after, step, ignore_last)
    # the name of the default is that of stages from before there was a choice
    name = cache_name("imp", options=options if score == "magnitude" else (*options, score))
    finetune = after == "finetune"
    trained = dense_state(net, task, task.steps)
    origin = _origin(net, task, after, step)
    mask = full(weights)
    for level, kept_count in enumerate(levels):
        # level 0 prunes the dense run, which is already trained
        if level > 0:
            train = partial(train_from, net, task, trained | origin, mask, step, finetune=finetune)
            trained = task.memo(f"{name}-level{level:02}", train)
        ranked = {name: _rank(trained[name], part, score) for name, part in mask.items()}
        scores = _raise_remaining(scores, mask, ranked, level, unpruned)
        mask = keep_top(scores, kept_count, seed=task.seed)
    # the harness has the state at initialization itself
    if after == "rewind" and step == 0:
        return Scores(scores)
    return Ticket(Scores(scores), trained | origin, start=step, finetune=finetune)


def at_rate(prunable_count: int, target: int, rate: float, extra: int = 0) -> list[int]:
    """Return the number of weights after each round that prunes ceil(rate * remaining) + extra.

    The last entry is `target`. Raises UserError for a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise UserError(f"imp: rate {rate!r} is outside (0, 1); give the fraction a round prunes")
    levels: list[int] = []
    remaining = prunable_count
    while True:
        remaining -= ceil(rate * remaining) + extra
        if remaining - target <= SLACK * rate * remaining:
            return [*levels, target]
        levels.append(remaining)


def in_rounds(prunable_count: int, target: int, rounds: int, extra: int = 0) -> list[int]:
    """Return the number of weights after each of `rounds` rounds that prune the same fraction.

    Raises UserError if there is less than one round.
    """
    if rounds < 1:
        raise UserError(f"imp: rounds = {rounds!r} is out of range; give 1 or more")
    rate = 1 - (target / prunable_count) ** (1 / rounds)
    levels = [prunable_count]
    for _ in range(rounds - 1):
        levels.append(max(levels[-1] - ceil(rate * levels[-1]) - extra, target))
    return [*levels[1:], target]


def _levels(
    prunable_count: int, target: int, rate: float, rounds: int | None, extra: int
) -> tuple[list[int], str]:
    """Return the number of weights after each round, and the text that names them in stages.

    With `rate`, runs of all densities pass through the same levels, so that the name leaves out
    the target.
    """
    if rounds is None:
        return at_rate(prunable_count, target, rate, extra), f"rate{rate!r}"
    # an explicit 0.2 cannot be told from the default
    if rate != 0.2:
        raise UserError("imp: rate and rounds exclude each other; give one of them")
    return in_rounds(prunable_count, target, rounds, extra), f"rounds{rounds}-to{target}"


def _last(weights: Mapping[str, Tensor], target: int) -> str:
    *_, (name, weight) = weights.items()
    if target < weight.numel():
        raise UserError(
            f"imp: the density keeps {target} weights, fewer than the {weight.numel()} of {name}; "
            "leave out ignore_last"
        )
    return name


def _origin(net: nn.Module, task: Task, after: str, step: int) -> State:
    """Return the entries of the state that a round resets, with their values."""
    if after in ("lr_rewind", "finetune"):
        return {}
    state = dense_state(net, task, step) if step else state_of(net)
    return state if after == "rewind" else {name: state[name] for name in prunable(net)}


def _rank(trained: Tensor, mask: Tensor, score: str) -> Tensor:
    """Return the absolute values of a layer, or their LAMP scores, in float64."""
    magnitude = trained.to(mask.device).double().abs()
    return magnitude if score == "magnitude" else lamp(magnitude * mask)


def _raise_remaining(
    scores: Weights, mask: Mask, ranked: Weights, level: int, unpruned: str | None
) -> Weights:
    """Return the scores, with those of the remaining weights at `level` and ordered as ranked."""
    raised = {}
    for name, layer_mask in mask.items():
        rank = ranked[name]
        if name == unpruned:
            # atan maps infinity to pi / 2: above all other weights, and still below the next level
            rank.fill_(torch.inf)
        # the arc tangent is below pi / 2, so that no score reaches the next level
        raised[name] = torch.where(layer_mask, level + rank.atan() / 2, scores[name])
    return raised

"""Gem-Miner: train scores in [0, 1], round them to a mask, and freeze the lowest ever so often.

Paper: Sreenivasan et al., "Rare Gems: Finding Lottery Tickets at Initialization", NeurIPS 2022.

The default follows the authors' code where it departs from the paper: a weight is used when
its score is strictly above 0.5, and the regularizer is the sum of the squares of all scores,
frozen ones included. The counts of the default follow the same exponential and end exactly at
the density asked. The authors' own, by which equal scores fall together and too few weights
may be left, are `counts="authors"`; what is then missing is filled up with the weights that
fell last. The method is meant for signed constants as weights: an initialization of the spec.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Weights, num_kept, prunable, top, total, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.supermasks.supermask import Supermask, cache_name, masked
from paibench.methods.training.services import State

Counts = Literal["exact", "authors"]


def gem_miner(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    regularization: float = 1e-4,
    period: int = 5,
    lr: float = 0.1,
    optimizer: Literal["sgd", "adam"] = "sgd",
    counts: Literal["exact", "authors"] = "exact",
    keep_unused: bool = True,
) -> Ticket:
    """The weights that are never frozen in a search that freezes the lowest scores in rounds.

    Scores start uniform in [0, 1] and follow the optimizer (momentum 0.9, no weight decay) on
    a cosine schedule; epochs, batches and augmentation are the recipe's. Weights, biases and
    norms stay as they are. Every `period`-th epoch but the first ends with a round of
    freezing; a shorter recipe has one round, after its last epoch, and one of a single epoch
    has none. The ticket's scores are the order of freezing, then the score; its `native`
    supermask is the rounded one. Raises UserError for options out of range.

    Options:
        regularization: factor of the sum of squared scores in the loss; it is a sum, so what
            fits depends on the number of weights (1e-4 is for ResNet-20 at density 0.0144).
        period: how many epochs lie between two rounds of freezing.
        lr: learning rate of the scores.
        optimizer: what trains the scores.
        counts: exact leaves round(total * density^(i / rounds)) weights in round i; authors
            freezes ceil(rate * active) of them and all that tie with the last of these.
        keep_unused: true brings back the weights that were never frozen and are still rounded to 0
            at the end; false has training start with these weights at 0, as the search left
            them (the authors prune them, and so end below the density asked).
    """
    if period < 1:
        raise UserError(f"gem_miner: period = {period} must be at least 1")
    if not 0 <= regularization < math.inf:
        raise UserError(f"gem_miner: regularization = {regularization} must be 0 or more")
    weights = prunable(net)
    frozen: Weights = {name: weight.detach() for name, weight in weights.items()}
    kept = num_kept(density, total(weights))
    dtype = next(iter(frozen.values())).dtype
    initial = torch.rand(total(weights), generator=task.generator, dtype=dtype)

    def compute() -> State:
        schedule = Schedule(total(weights), kept, density, task.recipe.epochs, period, counts)
        mine = GemMinerSearch(net, initial, schedule, regularization)
        task.fit(
            mine.supermask,
            before_step=mine.clamp,
            after_epoch=mine.after_epoch,
            penalty=mine.penalty if regularization else None,
            optimizer=optimizer,
            lr=lr,
            momentum=0.9,
            nesterov=False,
            weight_decay=0.0,
            schedule="cosine",
            warmup=0,
        )
        return mine.state()

    name = cache_name("gem_miner", options=(density, regularization, period, lr, optimizer, counts))
    state = {key: value.to(task.device) for key, value in task.memo(name, compute).items()}
    rounded = state["used"].to(dtype)
    native = masked(state["order"], rounded, frozen)
    left = masked(state["order"], 1 - state["idle"].to(dtype), frozen)
    return Ticket(
        Scores(unflatten(state["order"], weights)),
        weights=None if keep_unused else left,
        native=(native,),
    )


class Schedule:
    """After which epochs weights are frozen, and which."""

    def __init__(
        self, total: int, kept: int, density: float, epochs: int, period: int, counts: Counts
    ) -> None:
        self.total, self.kept, self.density, self.counts = total, kept, density, counts
        self.period = min(period, max(epochs - 1, 1))
        self.rounds = (epochs - 1) // self.period

    def due(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, ends with a round."""
        return epoch > 0 and epoch % self.period == 0

    def survivors(self, scores: Tensor, active: Tensor, epoch: int) -> Tensor:
        """Which of the active weights are still so after the round that ends an epoch."""
        if self.counts == "authors":
            fall = math.ceil((1 - self.density ** (1 / self.rounds)) * int(active.sum()))
            return active & (scores > scores[active].kthvalue(fall).values) if fall else active
        share = self.density ** (epoch // self.period / self.rounds)
        return highest(scores, active, round(self.total * share))


def highest(scores: Tensor, active: Tensor, count: int) -> Tensor:
    """The `count` highest scores among the active, or all of these when there are no more."""
    ranked = torch.where(active, scores, -1.0)  # no score is negative
    return top(ranked, min(count, int(active.sum())))


class GemMinerSearch:
    """The search: scores in training, which weights are not frozen, and when the others were."""

    def __init__(
        self, net: nn.Module, scores: Tensor, schedule: Schedule, regularization: float
    ) -> None:
        self.supermask = Supermask(net, scores, self.effective)
        self.scores = self.supermask.scores
        self.schedule = schedule
        self.regularization = regularization
        self.flags = torch.ones_like(self.scores, requires_grad=False)
        self.frozen_at = torch.zeros_like(self.flags, dtype=torch.float64)
        self.round = 0

    def effective(self, scores: Tensor, weights: Weights) -> Weights:
        """Weights that are not frozen and score above 0.5; frozen scores get no gradient here."""
        values = scores * self.flags
        return masked(values, torch.gt(values.detach(), 0.5, out=torch.empty_like(values)), weights)

    def penalty(self) -> Tensor:
        """What is added to the loss: large scores cost, frozen ones too."""
        return self.regularization * self.scores.square().sum()

    def clamp(self) -> None:
        """Bring the scores back into [0, 1], in place."""
        with torch.no_grad():
            self.scores.clamp_(0, 1)

    def after_epoch(self, epoch: int) -> None:
        """Freeze what is due; when no weight is used any more, freeze down to the end at once."""
        self.clamp()
        scores, active = self.scores.detach(), self.flags > 0
        if self.schedule.due(epoch):
            self._freeze(self.schedule.survivors(scores, active, epoch))
        active = self.flags > 0
        if not bool((active & (scores > 0.5)).any()):
            self._freeze(highest(scores, active, self.schedule.kept))

    def _freeze(self, stay: Tensor) -> None:
        self.round += 1
        falls = (self.flags > 0) & ~stay
        self.frozen_at[falls] = self._rank(self.round)[falls]
        self.flags.copy_(stay)

    def _rank(self, number: int) -> Tensor:
        """The round, then the score, as one number: in 64 bits nothing of the score is lost."""
        return number + self.scores.detach().double() / 2

    def state(self) -> State:
        """The order of freezing, and which of the weights never frozen are used or idle."""
        active, above = self.flags > 0, self.scores.detach() > 0.5
        order = torch.where(active, self._rank(self.round + 1), self.frozen_at)
        return {"order": order, "used": active & above, "idle": active & ~above}

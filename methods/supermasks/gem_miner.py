"""Gem-Miner: train scores in [0, 1], round them, and periodically freeze the lowest weights.

Paper: Sreenivasan et al., "Rare Gems: Finding Lottery Tickets at Initialization", NeurIPS 2022.

Where paper and code differ, the default follows the authors' code: a weight is used if its score is
strictly above 0.5, and the regularizer is the sum of the squares of all scores, including frozen
ones. The default counts follow the same exponential and end exactly at the requested density.
`counts="authors"` follows the released code: ties are frozen together, which can leave too few
weights. The shortfall is filled with the most recently frozen ones. The method was designed for
weights that are signed constants, an initialization of the spec.
"""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Weights, num_kept, prunable, top, total, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.supermasks.supermask import MaskLog, Supermask, cache_name, masked, rows
from paibench.methods.training.services import State

Counts = Literal["exact", "authors"]


def gem_miner(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    regularization: Annotated[float | None, "[0, inf)"] = None,
    period: Annotated[int, "[1, inf)"] = 5,
    lr: Annotated[float, "(0, inf)"] = 0.1,
    optimizer: Literal["sgd", "adam"] = "sgd",
    counts: Literal["exact", "authors"] = "exact",
    keep_unused: bool = True,
) -> Ticket:
    """Return the order of freezing as scores; the weights that are never frozen are kept.

    Scores start uniform in [0, 1] and are trained by the optimizer (momentum 0.9, no weight decay)
    on a cosine schedule; epochs, batches and augmentation are those of the recipe. Weights, biases
    and norms do not change. Every `period`-th epoch except the first ends with a round of
    freezing. A recipe with fewer epochs has one round, after its last epoch; a recipe of one epoch
    has none. Weights frozen in the same round are ordered by score. The `native` supermask of the
    ticket is the rounded one. Raises UserError for options out of range.

    Options:
        regularization: the factor of the sum of squared scores in the loss; None takes it from the
            density, the number of weights and the number of steps, see `default_regularization`.
        period: the number of epochs between two rounds of freezing.
        lr: the learning rate of the scores.
        optimizer: the optimizer of the scores.
        counts: `exact` leaves round(total * density^(i / rounds)) weights in round i; `authors`
            freezes ceil(rate * active) weights and all that tie with the last of these.
        keep_unused: true keeps the values of weights that were never frozen but are rounded to 0
            at the end; false starts training with these weights at 0, as the search left them
            (the authors prune them, and so end below the requested density).
    """
    if period < 1:
        raise UserError(f"gem_miner: period = {period} must be at least 1")
    weights = prunable(net)
    if regularization is None:
        regularization = default_regularization(density, total(weights), task.steps)
    if not 0 <= regularization < math.inf:
        raise UserError(f"gem_miner: regularization = {regularization} must be 0 or more")
    frozen: Weights = {name: weight.detach() for name, weight in weights.items()}
    kept_count = num_kept(density, total(weights))
    dtype = next(iter(frozen.values())).dtype
    initial = torch.rand(total(weights), generator=task.generator, dtype=dtype)

    def compute() -> State:
        schedule = Schedule(total(weights), kept_count, density, task.recipe.epochs, period, counts)
        search = GemMinerSearch(net, initial, schedule, regularization, task.seed)
        log = MaskLog(total(weights), task.recipe.epochs)
        log.put(0, search.used())

        def after_epoch(epoch: int) -> None:
            search.after_epoch(epoch)
            log.put(epoch + 1, search.used())

        # not resumable, because flags and rounds are no state of the module
        task.fit(
            search.supermask,
            before_step=search.clamp,
            after_epoch=after_epoch,
            penalty=search.penalty if regularization else None,
            optimizer=optimizer,
            lr=lr,
            momentum=0.9,
            nesterov=False,
            weight_decay=0.0,
            schedule="cosine",
            warmup=0,
        )
        return search.state() | {"distances": log.distances()}

    options = (density, regularization, period, lr, optimizer, counts)
    # stages of the first form have no distances
    name = cache_name("gem_miner", form=2, options=options)
    state = {key: value.to(task.device) for key, value in task.memo(name, compute).items()}
    rounded = state["used"].to(dtype)
    native = masked(state["order"], rounded, frozen)
    without_idle = masked(state["order"], 1 - state["idle"].to(dtype), frozen)
    return Ticket(
        Scores(unflatten(state["order"], weights)),
        weights=None if keep_unused else without_idle,
        native=(native,),
        distances=rows(state["distances"]),
    )


def default_regularization(density: float, total: int, steps: int) -> float:
    """Return the factor of the penalty for a search of `steps` steps over `total` weights.

    By itself, the penalty shrinks each score by exp(-factor * steps) over the search (learning
    rate 0.1, momentum 0.9, cosine schedule), so the factor is inverse to the number of steps. At
    the start half of all scores are above 0.5, so a density of 0.5 or more needs no penalty. The
    constants and powers are fitted to the values in the authors' configurations. For ResNet-20 the
    rule meets these within a factor of 1.3, for the others with SGD within 2.5, except ResNet-18
    on Tiny ImageNet at density 0.2 (3.5). docs/methods.md lists them all.
    """
    shrink = 0.5 * math.pow(max(0.0, -math.log(2 * density)), 1.5)
    return shrink * math.sqrt(268_336 / total) / steps  # ResNet-20 has 268,336 weights


class Schedule:
    """The epochs after which weights are frozen, and the weights to freeze."""

    def __init__(
        self, total: int, kept_count: int, density: float, epochs: int, period: int, counts: Counts
    ) -> None:
        self.total, self.kept_count, self.density, self.counts = total, kept_count, density, counts
        self.period = min(period, max(epochs - 1, 1))
        self.rounds = (epochs - 1) // self.period

    def due(self, epoch: int) -> bool:
        """Return whether an epoch (from 0) ends with a round of freezing."""
        # the authors skip epoch 0
        return epoch > 0 and epoch % self.period == 0

    def survivors(self, scores: Tensor, active: Tensor, epoch: int, seed: int = 0) -> Tensor:
        """Return which of the active weights stay active after the round that ends an epoch."""
        if self.counts == "authors":
            frozen = math.ceil((1 - self.density ** (1 / self.rounds)) * int(active.sum()))
            # clamped scores are often exactly 0, and the authors freeze all ties
            return active & (scores > scores[active].kthvalue(frozen).values) if frozen else active
        density = self.density ** (epoch // self.period / self.rounds)
        return highest(scores, active, round(self.total * density), seed)


def highest(scores: Tensor, active: Tensor, count: int, seed: int) -> Tensor:
    """Return the `count` highest of the active scores, or all of them if there are fewer."""
    ranked = torch.where(active, scores, -1.0)  # no score is negative
    return top(ranked, min(count, int(active.sum())), seed=seed)


class GemMinerSearch:
    """The state of a search: the scores, which weights are active, and when others were frozen."""

    def __init__(
        self,
        net: nn.Module,
        scores: Tensor,
        schedule: Schedule,
        regularization: float,
        seed: int = 0,
    ) -> None:
        self.supermask = Supermask(net, scores, self.effective)
        self.scores = self.supermask.scores
        self.schedule = schedule
        self.regularization = regularization
        # 1 or 0 in the type of the scores, because they are multiplied in each forward pass
        self.flags = torch.ones_like(self.scores, requires_grad=False)
        self.order = torch.zeros_like(self.flags, dtype=torch.float64)
        self.seed = seed

    def effective(self, scores: Tensor, weights: Weights) -> Weights:
        """Return the active weights with scores above 0.5; frozen scores receive no gradient."""
        # multiplied, so that only the penalty moves the scores of frozen weights
        values = scores * self.flags
        # strictly above 0.5 as in the authors' code; the paper has "at least"
        return masked(values, torch.gt(values.detach(), 0.5, out=torch.empty_like(values)), weights)

    def penalty(self) -> Tensor:
        """Return the regularizer: the sum of the squares of all scores, including frozen ones."""
        return self.regularization * self.scores.square().sum()

    def clamp(self) -> None:
        """Clamp the scores to [0, 1], in place."""
        with torch.no_grad():
            self.scores.clamp_(0, 1)

    def after_epoch(self, epoch: int) -> None:
        """Freeze the weights that are due; if no weight is used, freeze down to the final count."""
        # the last step of an epoch may leave [0, 1]; the authors clamp here too
        self.clamp()
        scores, active = self.scores.detach(), self.flags > 0
        if self.schedule.due(epoch):
            self._freeze(self.schedule.survivors(scores, active, epoch, self.seed))
        active = self.flags > 0
        # an emergency rule of the authors' code, which is not in the schedule
        if not bool((active & (scores > 0.5)).any()):
            self._freeze(highest(scores, active, self.schedule.kept_count, self.seed))

    def _freeze(self, survivors: Tensor) -> None:
        """Freeze all active weights but the survivors."""
        active = self.flags > 0
        if not torch.equal(active, survivors):
            self._rank(active)
            self.flags.copy_(survivors)

    def _rank(self, active: Tensor) -> None:
        """Order the active weights by their scores, above all others."""
        # Survivors too: so the order has the scores of the last cut, and the harness, which selects
        # the mask from it, repeats this cut with its lot. Ranks are exact, unlike sums with scores.
        ranks = torch.unique(self.scores.detach()[active], return_inverse=True)[1]
        self.order[active] = self.order.max() + 1 + ranks

    def used(self) -> Tensor:
        """Return the rounded supermask, flat: the active weights with scores above 0.5."""
        return (self.flags > 0) & (self.scores.detach() > 0.5)

    def state(self) -> State:
        """Return the order of freezing, and which of the active weights are used or idle."""
        active, used = self.flags > 0, self.used()
        if not self.order.any():
            self._rank(active)
        return {"order": self.order, "used": used, "idle": active & ~used}

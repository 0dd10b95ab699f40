"""Early-Bird tickets: train until the mask of the largest weights, or channels, no longer changes.

Paper: You et al., "Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks",
ICLR 2020.

The dense network is trained as usual, and a mask is drawn at the start of each epoch. A ticket
emerges as soon as the last five masks are close to each other: none of the earlier four is farther
than 0.1 from the last one. It is trained from the weights at which it emerged, or from
initialization.

The paper prunes channels by the scales of their batch norms (`units="channel"`), to which it can
add an L1 penalty; the default is the same rule for single weights by size. Masks are compared as in
the authors' code, which needs a full queue, so that no ticket emerges before four epochs are done.
Their distance is the fraction of the weights, or channels, that only one of two masks keeps. If
none emerges, the mask at the start of the last epoch is taken, and the record says so.

A fraction of the channels is no density. Here the ticket keeps the largest set of channels that
needs no more weights than the density keeps.
"""

from contextlib import suppress
from copy import deepcopy
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.baselines.dense import state_of
from paibench.methods.core.mask import (
    Mask,
    MaskHistory,
    keep_top,
    num_kept,
    prunable,
    total,
)
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import MOST_MASKS, Channels, Scores, Ticket, removed_channels
from paibench.methods.topology.channels import channels_of, layers_of


def early_bird(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    units: Literal["weight", "channel"] = "weight",
    threshold: Annotated[float, "[0, 1]"] = 0.1,
    masks: Annotated[int, "[2, inf)"] = 5,
    l1: Annotated[float, "[0, inf)"] = 0.0,
    start: Literal["emergence", "initialization"] = "emergence",
) -> Ticket:
    """Return the sizes when the ticket emerged as scores, and the weights at that time.

    Options:
        units: prune single weights by size (`weight`), or whole channels by the size of the scale
            of their batch norm (`channel`).
        threshold: the largest distance of the last mask from the others at which it emerges.
        masks: the number of masks that are compared, the last one included.
        l1: the factor of the L1 penalty on the scales of batch norms during the search, with
            `units="channel"` (the authors' option -sr, 1e-4).
        start: train the ticket from the weights at which it emerged, in the rest of the recipe
            (`emergence`), or from initialization, in all of it (`initialization`).

    Raises UserError for options out of range and for a network without channels that could be
    removed, and Diverged if the training diverges.
    """
    if not 0 <= threshold <= 1 or masks < 2 or l1 < 0:
        raise UserError(
            f"early_bird: threshold = {threshold!r} must be from 0 to 1, masks = {masks!r} at "
            f"least 2, and l1 = {l1!r} at least 0"
        )
    if l1 and units == "weight":
        raise UserError("early_bird: l1 has no effect with units = 'weight'; leave it out")
    kept_count = num_kept(density, total(prunable(net)))
    copy = deepcopy(net)
    ranking = _ByWeight(copy) if units == "weight" else _ByChannel(copy, task.shape)
    search = _Search(copy, task, ranking, kept_count, threshold, masks, l1)
    epochs, last = search.train()
    notes = () if last <= threshold else (_missed(threshold, masks, last, epochs),)
    distances = tuple(search.history.distances[:MOST_MASKS])
    if start == "initialization":
        return Ticket(ranking.scores(), distances=distances, notes=notes)
    step, state = epochs * task.steps_per_epoch, state_of(copy)
    return Ticket(ranking.scores(), state, start=step, distances=distances, notes=notes)


def _missed(threshold: float, masks: int, last: float, epochs: int) -> str:
    if epochs + 1 < masks:
        return f"no ticket emerged: the recipe is shorter than {masks} epochs"
    return f"no ticket emerged: the last distance was {last:.3g}, not {threshold:g} or less"


class _ByWeight:
    """Ranks the weights of a network, as they are now."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self.scales: list[Tensor] = []

    def scores(self) -> Scores:
        return Scores({name: w.detach().abs() for name, w in prunable(self._net).items()})

    def mask(self, kept_count: int, seed: int) -> Mask:
        """Return the mask of the largest weights."""
        return keep_top(self.scores().values, kept_count, seed=seed)


class _ByChannel:
    """Ranks the channels of a network by their scales, as they are now."""

    def __init__(self, net: nn.Module, shape: tuple[int, int, int]) -> None:
        self._net, self._layers = net, layers_of(net, shape)
        if not self._layers:
            raise UserError(
                "early_bird: no channels can be removed, because no batch norm stands between two "
                "layers alone; use units = 'weight'"
            )
        self.scales: list[Tensor] = [net.get_parameter(layer.scale) for layer in self._layers]

    def scores(self) -> Channels:
        names = [layer.scale for layer in self._layers]
        sizes = [scale.detach().abs() for scale in self.scales]
        return channels_of(self._layers, dict(zip(names, sizes, strict=True)))

    def mask(self, kept_count: int, seed: int) -> Mask:
        """Return which channels stay."""
        removed = removed_channels(self.scores(), prunable(self._net), kept_count, seed=seed)
        return {"channels": ~removed}


class _Emerged(Exception):
    """Ends a training."""


class _Search:
    """A dense training that ends when a ticket emerges, or before its last epoch."""

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        ranking: _ByWeight | _ByChannel,
        kept_count: int,
        threshold: float,
        masks: int,
        l1: float,
    ) -> None:
        self._net, self._task, self._ranking = net, task, ranking
        self._kept_count = kept_count
        self._threshold, self._masks, self._l1 = threshold, masks, l1
        self.history = MaskHistory()

    def train(self) -> tuple[int, float]:
        """Return the number of epochs trained, and the largest distance from the last mask.

        The network then has the weights that the last mask was drawn from. The distance is 1 as
        long as there are too few masks.
        """
        distance = self._draw()

        def after_epoch(epoch: int) -> None:
            nonlocal distance
            distance = self._draw()
            if distance <= self._threshold:
                raise _Emerged

        stop = (self._task.recipe.epochs - 1) * self._task.steps_per_epoch
        if stop and distance > self._threshold:
            penalty = self._penalty if self._l1 else None
            with suppress(_Emerged):
                self._task.fit(self._net, stop=stop, after_epoch=after_epoch, penalty=penalty)
        return len(self.history.distances) - 1, distance

    def _penalty(self) -> Tensor:
        # the sub-gradient of |scale| is its sign
        return self._l1 * torch.stack([s.abs().sum() for s in self._ranking.scales]).sum()

    def _draw(self) -> float:
        row = self.history.add(self._ranking.mask(self._kept_count, self._task.seed))
        return max(row[1 - self._masks :]) if len(row) >= self._masks - 1 else 1.0

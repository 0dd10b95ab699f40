"""Edge-popup: train scores, and use only the highest-scoring weights in each forward pass.

Paper: Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", CVPR 2020.

The default follows the authors' code: scores compete within each layer, by their absolute value.
Some later implementations rank the score itself, so that a negative score can only decrease; that
is `rank="raw"`. Counts are exact at every step and add up to the requested density;
`counts="authors"` rounds in each layer as the authors do, during the search only.
"""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Weights, apportion, num_kept, prunable, top, total, unflatten
from paibench.methods.core.random_streams import derive
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.supermasks.supermask import MaskLog, Supermask, cache_name, masked, rows
from paibench.methods.training.services import State


def edge_popup(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    rank: Literal["abs", "raw"] = "abs",
    layers: Literal["layer", "global"] = "layer",
    counts: Literal["exact", "authors"] = "exact",
    scale: bool = False,
    lr: Annotated[float, "(0, inf)"] = 0.1,
    weight_decay: Annotated[float, "[0, inf)"] = 1e-4,
    epochs: Annotated[int | None, "[1, inf)"] = None,
) -> Ticket:
    """Return the trained scores; the weights are not trained.

    Scores start as kaiming_uniform(a=sqrt(5)) and are trained by SGD with momentum 0.9 and a
    cosine schedule; epochs, batches and augmentation are those of the recipe. The score of a
    pruned weight receives its gradient too, so that the weight can return. Weights, biases and
    norms do not change.

    Options:
        rank: `abs` ranks |score|, as the authors do; `raw` ranks the score itself.
        layers: `layer` keeps the same density in each layer; with `global` all layers compete.
        counts: the number of weights used during the search; `exact` adds up to the density,
            `authors` keeps n - int((1 - density) * n) of each n.
        scale: multiply the weights by sqrt(1 / density) in the search and in the ticket.
        lr: the learning rate of the scores (the authors' 0.1).
        weight_decay: the weight decay of the scores (the authors' 1e-4).
        epochs: the length of the search; None for that of the recipe.
    """
    weights = prunable(net)
    kept_count = num_kept(density, total(weights))
    sizes = {name: weight.numel() for name, weight in weights.items()}
    even = apportion(sizes, dict.fromkeys(sizes, density), kept_count, seed=task.seed)
    groups, used = list(sizes.values()), list(even.values())
    if layers == "global":
        groups, used = [total(weights)], [kept_count]
    if counts == "authors":
        used = [n - int((1 - density) * n) for n in groups]
    # the authors' `scale_fan` divides by 1 - density instead, an error (their issue 9)
    factor = math.sqrt(1 / density)
    scaled = {name: w.detach() * factor for name, w in weights.items()} if scale else None
    initial = _initial(weights, task.generator)

    def ranked(scores: Tensor) -> Tensor:
        return scores.abs() if rank == "abs" else scores

    def compute() -> State:
        popup = EdgePopup(groups, used, rank, task.seed)
        supermask = Supermask(net, initial, popup, scaled)
        length = task.recipe.epochs if epochs is None else epochs
        supermask.log = log = MaskLog(total(weights), length)

        def draw(epoch: int) -> None:
            log.put(epoch + 1, popup.mask(ranked(supermask.scores.detach())))

        draw(-1)
        task.fit(
            supermask,
            epochs=length,
            after_epoch=draw,
            optimizer="sgd",
            lr=lr,
            momentum=0.9,
            nesterov=False,
            weight_decay=weight_decay,
            schedule="cosine",
            warmup=0,
            resumable=True,
        )
        return {"scores": supermask.scores.detach(), "distances": log.distances()}

    options = (density, rank, layers, counts, scale, lr, weight_decay, epochs)
    # stages of the first form have no distances
    found = task.memo(cache_name("edge_popup", form=2, options=options), compute)
    values = unflatten(ranked(found["scores"]), weights)
    output = Scores(values, even if layers == "layer" else None)
    return Ticket(output, weights=scaled, distances=rows(found["distances"]))


def _initial(weights: dict[str, nn.Parameter], generator: torch.Generator) -> Tensor:
    """Return the initial scores, flat: uniform within 1 / sqrt(fan_in)."""
    # on the CPU, as the generator, so that all devices see the same scores
    layers = [torch.empty(w.shape, dtype=w.dtype) for w in weights.values()]
    for layer in layers:
        nn.init.kaiming_uniform_(layer, a=math.sqrt(5), generator=generator)
    return torch.cat([layer.view(-1) for layer in layers])


class EdgePopup:
    """Effective weights: the highest scores of each group of consecutive ones.

    Group i has `sizes[i]` scores, and its `kept_counts[i]` highest are used.
    """

    def __init__(
        self, sizes: list[int], kept_counts: list[int], rank: Literal["abs", "raw"], seed: int = 0
    ) -> None:
        self.sizes = sizes
        self.top = [
            IncrementalTopK(count, derive(seed, "layer", number))
            for number, count in enumerate(kept_counts)
        ]
        self.rank = rank

    def mask(self, values: Tensor) -> Tensor:
        """Return the flat mask of the highest `values` of each group, as 0 and 1."""
        mask = torch.empty_like(values)
        parts = zip(values.split(self.sizes), mask.split(self.sizes), strict=True)  # type: ignore[no-untyped-call]
        for mark_top, (part, out) in zip(self.top, parts, strict=True):
            mark_top(part, out)
        return mask

    def __call__(self, scores: Tensor, weights: Weights) -> Weights:
        # the gradient of a score is sign(score) * w * dL/dw, as in the authors' code
        values = scores.abs() if self.rank == "abs" else scores
        return masked(values, self.mask(values.detach()), weights)


class IncrementalTopK:
    """Marks exactly the `kept_count` highest entries of a vector that changes little between calls.

    Only the entries near the last threshold are sorted. If the new threshold is not among them,
    as on the first calls, or if it is the score of kept and of pruned entries, all entries are
    ranked, and `mask.top` breaks the tie by a lot.
    """

    def __init__(self, kept_count: int, seed: int = 0) -> None:
        self.kept_count = kept_count
        self.seed = seed
        self.threshold = math.nan
        self.reach = 0.0

    def __call__(self, flat: Tensor, mask: Tensor) -> None:
        """Set `mask` to 1 at the highest entries of `flat`, and to 0 at all others."""
        if self.kept_count in (0, flat.numel()):
            mask.fill_(self.kept_count > 0)
        elif not self._update(flat, mask):
            self._rank_all(flat, mask)

    def _update(self, flat: Tensor, mask: Tensor) -> bool:
        low, high = self.threshold - self.reach, self.threshold + self.reach
        # a comparison into floating point takes a third of the time of one into booleans
        torch.gt(flat, high, out=mask)
        missing = self.kept_count - _ones(mask)
        candidates = _between(flat, low, high)
        if not 0 < missing <= candidates.numel():
            return False
        ranked, order = flat[candidates].sort(descending=True)
        threshold, *below = ranked[missing - 1 : missing + 1].tolist()
        if threshold in below:
            return False
        mask.index_fill_(0, candidates[order[:missing]], 1)
        self._remember(threshold)
        return True

    def _rank_all(self, flat: Tensor, mask: Tensor) -> None:
        # scores are NaN after the loss was; the training loop reports that as divergence
        highest = top(flat.nan_to_num(nan=-math.inf), self.kept_count, seed=self.seed)
        self._remember(float(flat[highest].min()))
        mask.copy_(highest)

    def _remember(self, threshold: float) -> None:
        """Store the threshold; the next search reaches 16 times as far as this one moved."""
        change = abs(threshold - self.threshold)
        self.reach = max(0.9 * self.reach, 0.0 if math.isnan(change) else 16 * change)
        self.threshold = threshold


def _ones(mask: Tensor) -> int:
    """Return how many entries of a vector of 0 and 1 are 1."""
    # float32 adds integers exactly up to 2 ** 24
    exact = torch.float64 if mask.numel() >= 1 << 24 else None
    return int(mask.sum(dtype=exact))


def _between(flat: Tensor, low: float, high: float) -> Tensor:
    """Return the indices, in order, of the entries from `low` to `high`."""
    if flat.device.type != "cpu":
        return ((flat >= low) & (flat <= high)).nonzero().view(-1)
    array = flat.numpy()  # numpy finds few among many four times faster
    return torch.from_numpy(np.flatnonzero((array >= low) & (array <= high)))

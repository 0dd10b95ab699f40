"""Edge-popup: train scores, and in each forward pass use only the weights that score highest.

Paper: Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", CVPR 2020.

The default follows the authors' code: within each layer the scores compete by their absolute
value. Some later implementations rank the raw score, where a negative score can only fall;
that is `rank="raw"`. Counts are exact at every step and add up to the density asked; the
authors' own rounding of each layer is `counts="authors"`, for the search alone.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Weights, apportion, num_kept, prunable, top, total, unflatten
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import FinderOutput, Scores, Ticket
from paibench.methods.supermasks.supermask import Supermask, cache_name, masked
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
    lr: float = 0.1,
    weight_decay: float = 1e-4,
    epochs: int | None = None,
) -> FinderOutput:
    """The weights with the highest scores, after scores were trained and weights were not.

    Scores start as kaiming_uniform(a=sqrt(5)) and follow SGD with momentum 0.9 and a cosine
    schedule; epochs, batches and augmentation are the recipe's. A pruned weight's score gets
    its gradient as well, so that it can come back. Weights, biases and norms stay as they are.

    Options:
        rank: abs ranks |score|, as the authors do; raw ranks the score itself.
        layers: layer keeps the same density everywhere; global lets layers compete.
        counts: how many weights are used during the search; exact adds up to the density's,
            authors keeps n - int((1 - density) * n) of each n.
        scale: multiply the weights by sqrt(1 / density) from the start, for good.
        lr: learning rate of the scores (the authors' 0.1).
        weight_decay: weight decay of the scores (the authors' 1e-4).
        epochs: length of the search; as the recipe's when not given.
    """
    weights = prunable(net)
    kept = num_kept(density, total(weights))
    sizes = {name: weight.numel() for name, weight in weights.items()}
    even = apportion(sizes, dict.fromkeys(sizes, density), kept)
    runs, used = list(sizes.values()), list(even.values())
    if layers == "global":
        runs, used = [total(weights)], [kept]
    if counts == "authors":
        used = [n - int((1 - density) * n) for n in runs]
    factor = math.sqrt(1 / density)
    scaled = {name: w.detach() * factor for name, w in weights.items()} if scale else None
    initial = _initial(weights, task.generator)

    def compute() -> State:
        supermask = Supermask(net, initial, EdgePopup(runs, used, rank), scaled)
        task.fit(
            supermask,
            epochs=task.recipe.epochs if epochs is None else epochs,
            optimizer="sgd",
            lr=lr,
            momentum=0.9,
            nesterov=False,
            weight_decay=weight_decay,
            schedule="cosine",
            warmup=0,
            resumable=True,
        )
        return {"scores": supermask.scores.detach()}

    options = (density, rank, layers, counts, scale, lr, weight_decay, epochs)
    scores = task.memo(cache_name("edge_popup", options=options), compute)["scores"]
    values = unflatten(scores.abs() if rank == "abs" else scores, weights)
    found = Scores(values, even if layers == "layer" else None)
    return Ticket(found, weights=scaled) if scale else found


def _initial(weights: dict[str, nn.Parameter], draw: torch.Generator) -> Tensor:
    """The first scores, flat: uniform within 1 / sqrt(fan in)."""
    layers = [torch.empty(w.shape, dtype=w.dtype) for w in weights.values()]
    for layer in layers:
        nn.init.kaiming_uniform_(layer, a=math.sqrt(5), generator=draw)
    return torch.cat([layer.view(-1) for layer in layers])


class EdgePopup:
    """Effective weights: of each run of `sizes[i]` scores the `kept[i]` highest are used."""

    def __init__(self, sizes: list[int], kept: list[int], rank: Literal["abs", "raw"]) -> None:
        self.sizes = sizes
        self.cuts = [IncrementalTopK(count) for count in kept]
        self.rank = rank

    def mask(self, values: Tensor) -> Tensor:
        """The flat mask of the highest `values` in each run, as numbers 0 and 1."""
        mask = torch.empty_like(values)
        parts = zip(values.split(self.sizes), mask.split(self.sizes), strict=True)  # type: ignore[no-untyped-call]
        for cut, (part, out) in zip(self.cuts, parts, strict=True):
            cut(part, out)
        return mask

    def __call__(self, scores: Tensor, weights: Weights) -> Weights:
        values = scores.abs() if self.rank == "abs" else scores
        return masked(values, self.mask(values.detach()), weights)


class IncrementalTopK:
    """Marks exactly the `kept` highest entries of a vector that moves little between calls.

    Only what lies near the last threshold is sorted. When the new threshold is not there, and
    on the first calls, everything is ranked. Ties are broken as in `mask.top`.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.threshold = math.nan
        self.reach = 0.0

    def __call__(self, flat: Tensor, mask: Tensor) -> None:
        """Set `mask` to 1 at the `kept` highest entries of `flat`, earlier ones first, else 0."""
        if self.kept in (0, flat.numel()):
            mask.fill_(self.kept > 0)
        elif not self._near(flat, mask):
            self._afresh(flat, mask)

    def _near(self, flat: Tensor, mask: Tensor) -> bool:
        low, high = self.threshold - self.reach, self.threshold + self.reach
        # a comparison into floating point takes a third of the time of one into booleans
        torch.gt(flat, high, out=mask)
        missing = self.kept - _ones(mask)
        places = _between(flat, low, high)
        if not 0 < missing <= places.numel():
            return False
        ranked, order = flat[places].sort(descending=True, stable=True)
        mask.index_fill_(0, places[order[:missing]], 1)
        self._note(float(ranked[missing - 1]))
        return True

    def _afresh(self, flat: Tensor, mask: Tensor) -> None:
        # a loss that is no number has made scores NaN: that is the training loop's to report
        kept = top(flat.nan_to_num(nan=-math.inf), self.kept)
        self._note(float(flat[kept].min()))
        mask.copy_(kept)

    def _note(self, threshold: float) -> None:
        """Remember the threshold; the next is sought 16 times as far as this one moved."""
        moved = abs(threshold - self.threshold)
        self.reach = max(0.9 * self.reach, 0.0 if math.isnan(moved) else 16 * moved)
        self.threshold = threshold


def _ones(mask: Tensor) -> int:
    """How many entries of a vector of 0 and 1 are 1; small whole numbers add up exactly."""
    exact = torch.float64 if mask.numel() >= 1 << 24 else None
    return int(mask.sum(dtype=exact))


def _between(flat: Tensor, low: float, high: float) -> Tensor:
    """The places, in order, of the entries from `low` to `high`."""
    if flat.device.type != "cpu":
        return ((flat >= low) & (flat <= high)).nonzero().view(-1)
    array = flat.numpy()  # which finds few places among many four times faster
    return torch.from_numpy(np.flatnonzero((array >= low) & (array <= high)))

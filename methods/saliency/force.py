"""FORCE and Iter-SNIP: SNIP in many rounds, so that it sees what earlier rounds left.

Paper: de Jorge et al., "Progressive Skeletonization: Trimming more fat from a network at
initialization", ICLR 2021.

Each round computes the gradient g of the loss at the pruned network w * m. FORCE scores all weights
by |w * g|, so that a pruned weight can return; Iter-SNIP scores the remaining ones only (section 4
of the paper). With one round both are SNIP.

Defaults: FORCE in 60 rounds on an exponential schedule, as in the authors' runs. All rounds score
on the examples that SNIP scores on; the authors draw other examples for each round (`fresh`).
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import flatten, prunable, top, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import batch_loss, losses, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.rounds import (
    Schedule,
    as_one_vector,
    prune_in_rounds,
    round_counts,
)
from paibench.methods.saliency.snip import normalised, summed_gradients


def force(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    variant: Literal["force", "iter_snip"] = "force",
    rounds: Annotated[int, "[1, inf)"] = 60,
    schedule: Schedule = "exponential",
    examples: Literal["same", "fresh"] = "same",
    per_class: Annotated[int, "[1, inf)"] = 10,
    batch: Annotated[int, "[1, inf)"] = 256,
    mode: Literal["train", "eval"] = "train",
) -> Scores:
    """Return the sensitivities of the last round, or the order of elimination (`iter_snip`).

    Options:
        variant: pruned weights may return (`force`), or stay pruned (`iter_snip`).
        rounds: the number of rounds of pruning; one is SNIP.
        schedule: after round r of n the density is density ** (r / n) (`exponential`), or it
            decreases by the same amount in each round (`linear`).
        examples: all rounds score on the same examples (`same`), or each on the next batch of the
            shuffled training set (`fresh`), for which `per_class` has no effect.
        per_class: the number of examples of each class to score on.
        batch: the number of examples in a batch.
        mode: batch norms use the statistics of the batch (`train`) or the running ones (`eval`).

    Raises UserError if scores are not finite, or all scores of a round are 0.
    """
    copy = scoring_copy(net, mode)
    weights = prunable(copy)
    flat = as_one_vector(weights)
    batches = _batches(copy, task, examples, per_class, batch)
    counts = round_counts(density, flat.numel(), rounds, schedule)

    def gradients() -> list[Tensor]:
        return summed_gradients(next(batches), list(weights.values()))

    if variant == "iter_snip":
        try:
            return Scores(unflatten(prune_in_rounds(flat, gradients, counts, task.seed), weights))
        except OverflowError as error:
            raise UserError(f"the loss of the pruned network overflows: {error}") from error
    initial = {name: weight.detach().clone() for name, weight in weights.items()}

    def scores() -> dict[str, Tensor]:
        # at the initial values, so that a pruned weight has a score too
        pairs = zip(initial.items(), gradients(), strict=True)
        return normalised({name: (value * g).abs_() for (name, value), g in pairs})

    for kept_count in counts[:-1]:
        mask = top(flatten(scores()), kept_count, seed=task.seed)
        torch.mul(flatten(initial), mask, out=flat)
    return Scores(scores())


def _batches(
    copy: nn.Module, task: Task, examples: str, per_class: int, batch: int
) -> Iterator[Iterable[tuple[Tensor, int]]]:
    """Yield the losses of each round, with their numbers of examples."""
    while examples == "same":
        yield losses(copy, task, per_class=per_class, batch=batch)
    while True:
        for inputs, labels in task.batches(size=batch):
            yield [(batch_loss(copy, task, inputs, labels), len(labels))]

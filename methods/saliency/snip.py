"""SNIP: keep the weights whose removal would change the loss most (first-order).

Paper: Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019.

The score |w * dL/dw| is the derivative of the loss with respect to a gate on the weight (section
4.1). It is computed at the weights that are trained later; the authors score another draw of them.

Defaults: ten examples of each class, not augmented; the absolute value after summing over batches
(with one batch, as in the paper, both readings agree); batch norms use the statistics of the batch,
because the running statistics at initialization let activations grow with depth.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import prunable, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import losses, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores


def snip(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    per_class: Annotated[int, "[1, inf)"] = 10,
    batch: Annotated[int, "[1, inf)"] = 256,
    abs: Literal["sum", "batch"] = "sum",
    mode: Literal["train", "eval"] = "train",
) -> Scores:
    """Return connection sensitivities, normalised to sum to 1 over the network.

    Options:
        per_class: the number of examples of each class to score on.
        batch: the number of examples in a batch.
        abs: take the absolute value of the gradient over all examples (`sum`), or average the
            absolute gradients of the batches (`batch`, as Frankle et al. 2021).
        mode: batch norms use the statistics of the batch (`train`) or the running ones (`eval`).

    Raises UserError if the scores are not finite or all are 0.
    """
    copy = scoring_copy(net, mode)
    # the authors' TensorFlow code also scores and prunes biases
    weights = prunable(copy)
    batches = losses(copy, task, per_class=per_class, batch=batch)
    gradients = summed_gradients(batches, list(weights.values()), abs=abs)
    with torch.no_grad():
        values = [
            (weight * g).abs_() for weight, g in zip(weights.values(), gradients, strict=True)
        ]
    return Scores(normalised(dict(zip(weights, values, strict=True))))


def summed_gradients(
    losses: Iterable[tuple[Tensor, int]],
    parameters: Sequence[Tensor],
    *,
    abs: Literal["sum", "batch"] = "sum",
) -> list[Tensor]:
    """Return the gradients of the summed loss of all examples, in the shapes of `parameters`.

    `losses` yields the mean loss and the number of examples of each batch. With `abs="batch"` the
    absolute gradients of the batches are summed.
    """
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    # the loss is a mean, so that batches of unequal size count by their examples
    for loss, examples in losses:
        gradients = torch.autograd.grad(loss * examples, parameters, materialize_grads=True)
        torch._foreach_add_(sums, [g.abs() for g in gradients] if abs == "batch" else gradients)
    return sums


def normalised(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores divided by their sum over the network. Raises UserError if that is 0."""
    # one divisor for all layers, so that the ranking does not change
    score_sum = sum(float(score.sum(dtype=torch.float64)) for score in scores.values())
    if not 0 < score_sum < float("inf"):
        reason = "no gradient of the loss reaches them" if score_sum == 0 else "the loss overflows"
        raise UserError(
            f"the sensitivities of {total(scores)} weights sum to {score_sum}: {reason}"
        )
    return {name: score / score_sum for name, score in scores.items()}

"""GraSP: prune the weights whose removal reduces the gradient norm least.

Paper: Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow",
ICLR 2020.

The authors remove the largest -w * Hg; the scores here are w * Hg, because the highest
scores are kept. H and g are the Hessian and the gradient of the mean loss over the same examples,
ten of each class and not augmented. As in the authors' code, logits are divided by 200 and batch
norms are in training mode. `abs` ranks |w * Hg| instead, a variant of Frankle et al. 2021.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import losses, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.second_derivatives import (
    refuse_lost_derivatives,
    second_derivatives,
)


def grasp(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    per_class: Annotated[int, "[1, inf)"] = 10,
    batch: Annotated[int, "[1, inf)"] = 256,
    temperature: Annotated[float, "(0, inf)"] = 200.0,
    score: Literal["signed", "abs"] = "signed",
    mode: Literal["train", "eval"] = "train",
) -> Scores:
    """Return each weight times its entry of the Hessian-gradient product.

    Options:
        per_class: the number of examples of each class to score on.
        batch: the number of examples in a batch; the search makes two passes over all of them.
        temperature: the divisor of the logits; it changes the ranking.
        score: w * Hg as in the paper (`signed`), or its absolute value (`abs`).
        mode: batch norms use the statistics of the batch (`train`) or the running ones (`eval`).

    Raises UserError if a score is not finite, or if torch cannot differentiate an operation of the
    network twice.
    """
    # Synaptic-Flow's GraSP scores in eval mode instead
    copy = scoring_copy(net, mode)
    weights = prunable(copy)
    parameters = list(weights.values())

    def batch_losses() -> Iterable[tuple[Tensor, int]]:
        return losses(copy, task, per_class=per_class, batch=batch, temperature=temperature)

    with second_derivatives():
        _, products = hessian_gradient(batch_losses, parameters)
    with torch.no_grad():
        values = [weight * product for weight, product in zip(parameters, products, strict=True)]
    if not all(bool(value.isfinite().all()) for value in values):
        raise UserError(
            "w * Hg is not finite: the second derivative of the loss overflows or does not exist, "
            "as that of the norm of a vector of zeros; use another method"
        )
    if score == "abs":
        values = [value.abs() for value in values]
    # the authors keep all up to the k-th largest, one weight more than the density; ours is exact
    return Scores(dict(zip(weights, values, strict=True)))


def hessian_gradient(
    losses: Callable[[], Iterable[tuple[Tensor, int]]], weights: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradient g and the product Hg of the mean loss over all examples.

    Both have the shapes of `weights`. `losses()` yields the mean loss and the number of examples
    of each batch, the same at every call. The first pass sums g; the second differentiates the
    inner product of each batch's gradient with g, so that H itself is never formed.
    """
    gradient = [torch.zeros_like(weight) for weight in weights]
    total_examples = 0
    for loss, examples in losses():
        # a weight that the loss does not use has gradient 0, and not None
        parts = torch.autograd.grad(loss * examples, weights, materialize_grads=True)
        torch._foreach_add_(gradient, parts)
        total_examples += examples
    torch._foreach_div_(gradient, total_examples)
    product = [torch.zeros_like(weight) for weight in weights]
    for loss, examples in losses():
        parts = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        # g is constant here; otherwise this would be the derivative of |g|^2, which is 2 Hg
        inner_product = torch.stack(
            [(p * g).sum() for p, g in zip(parts, gradient, strict=True)]
        ).sum()
        refuse_lost_derivatives(inner_product)
        parts = torch.autograd.grad(inner_product, weights, materialize_grads=True)
        torch._foreach_add_(product, parts, alpha=examples / total_examples)
    return gradient, product

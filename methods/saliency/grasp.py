"""GraSP: prune the weights whose removal reduces the gradient norm least.

Paper: Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow",
ICLR 2020.

The authors remove the largest -w * Hg; the scores here are w * Hg, because the highest
scores are kept. H and g are the Hessian and the gradient of the mean loss over the same examples,
ten of each class and not augmented. As in the authors' code, logits are divided by 200 and batch
norms are in training mode. `abs` ranks |w * Hg| instead, a variant of Frankle et al. 2021.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import losses, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores


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

    # the only backend of attention that can be differentiated twice
    with sdpa_kernel(SDPBackend.MATH), TwiceDifferentiable(), _naming_operations():
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
        _refuse_lost_derivatives(inner_product)
        parts = torch.autograd.grad(inner_product, weights, materialize_grads=True)
        torch._foreach_add_(product, parts, alpha=examples / total_examples)
    return gradient, product


class TwiceDifferentiable(TorchFunctionMode):
    """Gives hard sigmoids a second derivative, the only activations that torch has without one.

    Their values stay the same; their derivatives are those of a clamp, which are the same too.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the function returns."""
        name = getattr(func, "__name__", "")
        if name not in ("hardsigmoid", "hardsigmoid_"):
            return func(*args, **(kwargs or {}))
        arguments = {**dict(zip(("input", "inplace"), args, strict=False)), **(kwargs or {})}
        x = arguments["input"]
        slope = F.hardtanh(x + 3, 0, 6) / 6
        # torch rounds a sixth to float32, so that the value of the clamp can differ
        y = F.hardsigmoid(x.detach()) + (slope - slope.detach())
        return x.copy_(y) if name.endswith("_") or arguments.get("inplace") else y


def _refuse_lost_derivatives(value: Tensor) -> None:
    """Raise UserError if a gradient that cannot be differentiated is a part of the value."""
    nodes, seen = [value.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        # torch would take the derivative as 0, and raises nothing
        if node.name() == "torch::autograd::Error":
            raise _no_second_derivative("a function that is marked @once_differentiable")
        seen.add(node)
        nodes += [child for child, _ in node.next_functions]


@contextmanager
def _naming_operations() -> Iterator[None]:
    """Raise UserError that names the operation of the network that has no second derivative."""
    try:
        yield
    except RuntimeError as error:
        missing = re.search(r"derivative for (\S+?)(_backward)? is not implemented", str(error))
        if missing is None:
            raise
        raise _no_second_derivative(missing[1]) from error


def _no_second_derivative(operation: str) -> UserError:
    return UserError(
        "grasp needs the second derivative of each operation of the network, and torch has none of "
        f"{operation}; use another method"
    )

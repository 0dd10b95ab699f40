"""PX: keep the weights that contribute most to an upper bound of the neural tangent kernel.

Paper: Iurada et al., "Finding Lottery Tickets in Vision Models via Data-driven Spectral Foresight
Pruning", CVPR 2024.

The kernel factors into paths: the product of two networks with the architecture of the given one,
R = sum over x of f(1; w^2) * f(x^2; 1, a). The first has squared weights, no activation and an
input of ones; the second has weights of one, and its rectifiers are open if they are open in the
given network for the example x. The score of a weight is w^2 * |dR/dw^2|, in 100 rounds (section 4
of the paper). Without data the second network counts as 1: this is SynFlow with squared weights.

The defaults follow the authors' code. The classifier and the norms are not squared, and batch norms
use the statistics of each batch in the two networks, and the running ones where they find out which
rectifiers are open. In our reading biases count as 0, as they begin paths that no input takes (the
authors' networks have none), and smooth rectifiers (GELU, SiLU) are open for positive inputs.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from paibench.methods.core.mask import flatten, prunable, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import refusing_small_batches, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.rectifiers import Rectifiers
from paibench.methods.saliency.rounds import Schedule, prune_in_rounds, round_counts


def px(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    rounds: Annotated[int, "[1, inf)"] = 100,
    data: bool = True,
    classifier: Literal["signed", "squared"] = "signed",
    per_class: Annotated[int, "[1, inf)"] = 10,
    batch: Annotated[int, "[1, inf)"] = 256,
    mode: Literal["train", "eval"] = "train",
    schedule: Schedule = "exponential",
) -> Scores:
    """Return the order of elimination; the harness makes the last cut.

    Options:
        rounds: the number of rounds of pruning.
        data: weigh paths by the examples that take them; without, the search needs no data.
        classifier: use the last layer as it is (`signed`), or like the others (`squared`).
        per_class: the number of examples of each class to score on.
        batch: the number of examples in a batch.
        mode: batch norms of the two networks use the statistics of the batch (`train`) or the
            running ones (`eval`); without data they always use these.
        schedule: after round r of n the density is density ** (r / n) (`exponential`), or it
            decreases by the same amount in each round (`linear`).

    Raises UserError if no path leads from the input to the output, or a score is not finite.
    """
    paths = Paths(net, mode if data else "eval", squares_last=classifier == "squared")
    squares = flatten(paths.weights).square()

    def batches() -> Iterator[Tensor]:
        if data:
            for inputs, _ in task.batches(per_class=per_class, size=batch):
                task.count(2 * len(inputs), len(inputs))  # the passes of the two networks
                yield inputs.to(squares.dtype)
        else:
            task.count(1, 1)
            yield torch.ones(1, *task.shape, dtype=squares.dtype, device=squares.device)

    def gradients() -> list[Tensor]:
        sums = [torch.zeros_like(weight) for weight in paths.weights.values()]
        for inputs in batches():
            torch._foreach_add_(sums, paths.gradients(squares, inputs, data=data))
        return sums

    counts = round_counts(density, squares.numel(), rounds, schedule)
    try:
        order = prune_in_rounds(squares, gradients, counts, task.seed)
    except OverflowError as error:
        raise UserError(f"px: the sum over paths is not finite: {error}") from error
    if not bool(order.any()):
        raise UserError("px: no path leads from the input to the output; use another method")
    return Scores(unflatten(order, prunable(net)))


class Paths:
    """The two networks whose product sums over paths, in float64."""

    def __init__(self, net: nn.Module, mode: Literal["train", "eval"], squares_last: bool) -> None:
        self._given = scoring_copy(net, "eval").double()
        self._net = scoring_copy(net, mode).double()
        self.weights = {name: weight.detach() for name, weight in prunable(self._given).items()}
        self._signed = () if squares_last else (next(reversed(self.weights)),)
        self._biases = {
            f"{prefix}.{name}": torch.zeros_like(parameter)
            for prefix, module in self._net.named_modules()
            if "Norm" not in type(module).__name__
            for name, parameter in module.named_parameters(recurse=False)
            if name.endswith("bias")
        }

    def gradients(self, squares: Tensor, inputs: Tensor, *, data: bool) -> tuple[Tensor, ...]:
        """Return the derivatives of R with respect to the weights of the first network.

        `squares` has the squared weights, and 0 for those that are pruned; `inputs` is
        [b, c, h, w].
        """
        parts = unflatten(squares, self.weights)
        masked = {name: self.weights[name] * (part > 0) for name, part in parts.items()}
        first = {name: masked[name] if name in self._signed else parts[name] for name in parts}
        leaves = {name: weight.clone().requires_grad_() for name, weight in first.items()}
        with Rectifiers(lambda x: x):
            outputs = self._run(leaves, torch.ones_like(inputs))
        if data:
            outputs = outputs * self._second(masked, parts, inputs)
        return torch.autograd.grad(outputs.sum(), list(leaves.values()), materialize_grads=True)

    @torch.no_grad()
    def _second(
        self, masked: dict[str, Tensor], parts: dict[str, Tensor], inputs: Tensor
    ) -> Tensor:
        """Return the outputs of the network with weights of one and the rectifiers of `inputs`."""
        is_open: list[Tensor] = []

        with Rectifiers(lambda x: is_open.append(x > 0)):
            functional_call(self._given, masked, (inputs,))
        ones = {
            name: masked[name] if name in self._signed else (part > 0).to(part.dtype)
            for name, part in parts.items()
        }
        patterns = iter(is_open)
        with Rectifiers(lambda x: x * next(patterns)):
            return self._run(ones, inputs.square())

    def _run(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        with refusing_small_batches():
            outputs: Tensor = functional_call(self._net, {**self._biases, **weights}, (inputs,))
        return outputs

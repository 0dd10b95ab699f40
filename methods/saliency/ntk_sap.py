"""NTK-SAP: keep the weights with the largest effect on the trace of the neural tangent kernel.

Paper: Wang et al., "NTK-SAP: Improving neural network pruning by aligning training dynamics",
ICLR 2023.

The trace is estimated without data: for inputs Z of noise and a small random change D of all
weights, it is proportional to the mean of |f(Z; w * m) - f(Z; (w + D) * m)|^2 (equation 7). The
score of a weight is the absolute derivative with respect to its gate m, summed over batches. Each
batch has new inputs and new weights, so that the mask depends on the architecture and on the
distribution of the weights alone.

The defaults are those for CIFAR-10: 20 rounds with 5 passes over noise of as many inputs as ten of
each class; for the larger data sets the authors take 100 rounds with one pass. They draw new
weights with the initializer of the network; here the weights of each layer are shuffled, which is
a draw of the same distribution for any initializer. Batch norms use the statistics of the noise in
the unchanged network, for both networks.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from paibench.methods.core.mask import flatten, prunable, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.scoring import refusing_small_batches, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.rounds import Schedule, prune_in_rounds, round_counts


def ntk_sap(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    rounds: Annotated[int, "[1, inf)"] = 20,
    repeats: Annotated[int, "[1, inf)"] = 5,
    epsilon: Annotated[float, "(0, inf)"] = 0.01,
    weights: Literal["shuffled", "kept"] = "shuffled",
    per_class: Annotated[int, "[1, inf)"] = 10,
    batch: Annotated[int, "[1, inf)"] = 256,
    schedule: Schedule = "exponential",
) -> Scores:
    """Return the order of elimination; the harness makes the last cut.

    Options:
        rounds: the number of rounds of pruning.
        repeats: the number of passes over the noise in each round.
        epsilon: the standard deviation of the change of the weights.
        weights: each batch scores the weights of each layer in a new random order (`shuffled`), or
            all batches score the weights of the network (`kept`).
        per_class: the number of inputs of noise in a pass, divided by the number of classes.
        batch: the number of inputs in a batch.
        schedule: after round r of n the density is density ** (r / n) (`exponential`), or it
            decreases by the same amount in each round (`linear`).

    Raises UserError if a score is not finite.
    """
    kernel = Kernel(net, task, epsilon, shuffles=weights == "shuffled")
    gates = torch.ones_like(flatten(kernel.weights))
    inputs = per_class * task.classes
    sizes = [min(batch, inputs - start) for start in range(0, inputs, batch)]

    def gradients() -> list[Tensor]:
        sums = torch.zeros_like(gates)
        for size in sizes * repeats:
            sums += kernel.gradient(gates, size)
        return list(unflatten(sums, kernel.weights).values())

    counts = round_counts(density, gates.numel(), rounds, schedule)
    try:
        # the score of a gate is its value times its gradient: 0 for one that is pruned
        order = prune_in_rounds(gates, gradients, counts, task.seed)
    except OverflowError as error:
        raise UserError(f"ntk_sap: the change of the outputs is not finite: {error}") from error
    return Scores(unflatten(order, prunable(net)))


class Kernel:
    """The change of the outputs under a random change of the weights."""

    def __init__(self, net: nn.Module, task: Task, epsilon: float, *, shuffles: bool) -> None:
        self._net = scoring_copy(net, "eval")
        self._task = task
        self._epsilon = epsilon
        self._shuffles = shuffles
        self.weights = {name: weight.detach() for name, weight in prunable(self._net).items()}
        self._norms = [
            module
            for module in self._net.modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats
        ]
        for norm in self._norms:
            norm.momentum = 1.0  # the running statistics are those of the last batch

    def gradient(self, gates: Tensor, size: int) -> Tensor:
        """Return the derivative of the squared change with respect to the gates, for new noise."""
        draw = self._task.generator
        dtype, device = gates.dtype, gates.device
        inputs = torch.randn(size, *self._task.shape, generator=draw, dtype=dtype).to(device)
        if self._shuffles:
            for weight in self.weights.values():
                order = torch.randperm(weight.numel(), generator=draw).to(device)
                weight.copy_(weight.flatten()[order].view(weight.shape))
        values = flatten(self.weights)
        change = torch.randn(gates.shape, generator=draw, dtype=dtype).to(device)
        gates = gates.clone().requires_grad_()
        self._measure_statistics(values * gates.detach(), inputs)
        outputs = self._outputs(values * gates, inputs)
        changed = self._outputs((values + self._epsilon * change) * gates, inputs)
        (gradient,) = torch.autograd.grad((outputs - changed).square().sum(), gates)
        self._task.count(3 * size if self._norms else 2 * size, 2 * size)
        return gradient

    def _measure_statistics(self, values: Tensor, inputs: Tensor) -> None:
        for norm in self._norms:
            norm.train()
        if self._norms:
            with torch.no_grad(), refusing_small_batches(""):
                self._outputs(values, inputs)
        for norm in self._norms:
            norm.eval()

    def _outputs(self, values: Tensor, inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._net, unflatten(values, self.weights), (inputs,))
        return outputs

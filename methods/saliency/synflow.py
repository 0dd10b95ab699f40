"""SynFlow: keep the weights with the largest synaptic flow; no data are used.

Paper: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020.

The flow R is the sum of the outputs for an input of ones if every weight has its absolute value;
the score of a weight is its share |w| * dR/d|w| of the flow (section 6). The default prunes in a
hundred rounds, because one round empties whole layers.

Batch norms are those of initialization (mean 0, variance 1). Biases and shifts count as 0, as in
the authors' networks: they would add flow that no input sends. The ones are multiplied by a tiny
number, which changes nothing in the authors' networks and makes others linear; `positive.py` says
what flow is in them. The default precision is float64; the authors' release has float32, in which
deep networks on large images overflow, and very sparse ones come close to 0.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import prunable, unflatten
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.positive import Flow
from paibench.methods.saliency.rounds import Schedule, as_one_vector, prune_in_rounds, round_counts


def synflow(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    iterations: Annotated[int, "[1, inf)"] = 100,
    schedule: Schedule = "exponential",
    precision: Literal["float64", "float32"] = "float64",
) -> Scores:
    """Return the order of elimination, see `prune_in_rounds`; the harness makes the last cut.

    Options:
        iterations: the number of rounds of pruning.
        schedule: after round e of n the density is density ** (e / n) (`exponential`), or it
            decreases by the same amount in each round (`linear`).
        precision: the floating-point type of the flow; casts in the network are ignored.

    Raises UserError if the network has no synaptic flow, or its flow overflows.
    """
    if iterations < 1:
        raise UserError(f"iterations = {iterations!r} is out of range; give 1 or more")
    # a copy: the authors take absolute values in place and restore the signs afterwards
    flow = Flow(net, task.shape, getattr(torch, precision))
    weights = list(flow.weights.values())
    flat = as_one_vector(flow.weights)

    def gradients() -> tuple[Tensor, ...]:
        task.count(1, 1)  # the input of ones
        return torch.autograd.grad(flow(), weights, materialize_grads=True)

    counts = round_counts(density, flat.numel(), iterations, schedule)
    try:
        order = prune_in_rounds(flat, gradients, counts, task.seed)
    except OverflowError as error:
        raise flow.not_finite() from error
    return Scores(unflatten(order, prunable(net)))

"""ProsPr: keep the weights whose removal would change the loss after a few steps of training.

Paper: Alizadeh et al., "Prospect Pruning: Finding Trainable Weights at Initialization using
Meta-Gradients", ICLR 2022.

The score is |dL(w_M)/dc| for a gate c = 1 on each weight, where w_M is the network after M steps of
SGD from w * c. Without a step it is SNIP. The steps train all parameters, also biases and norms.

The defaults are those of the authors' README: three steps with learning rate 0.5 and momentum 0.9,
the same examples in each step. In the authors' code no gradient flows through the first step of
SGD with momentum; `first_step="exact"` has it too. The memory grows with the number of steps.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from paibench.methods.core.mask import prunable
from paibench.methods.core.scoring import batch_loss, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.second_derivatives import (
    refuse_lost_derivatives,
    second_derivatives,
)
from paibench.methods.saliency.snip import normalised
from paibench.methods.training.data import Batch


def prospr(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    steps: Annotated[int, "[0, inf)"] = 3,
    lr: Annotated[float, "(0, inf)"] = 0.5,
    momentum: Annotated[float, "[0, 1)"] = 0.9,
    order: Literal["full", "first"] = "full",
    first_step: Literal["authors", "exact"] = "authors",
    examples: Literal["same", "fresh"] = "same",
    per_class: Annotated[int, "[1, inf)"] = 10,
    mode: Literal["train", "eval"] = "train",
) -> Scores:
    """Return the sensitivities of the loss after `steps` steps, normalised to sum to 1.

    Options:
        steps: the number of steps of training before the loss is measured.
        lr: the learning rate of these steps.
        momentum: the momentum of these steps.
        order: differentiate through the steps (`full`), or take each step as a constant (`first`),
            which needs neither second derivatives nor their memory.
        first_step: with momentum, the gradient of the first step is a constant (`authors`), or it
            is differentiated too (`exact`).
        examples: all steps and the loss use the same examples, `per_class` of each class (`same`),
            or each the next batch of as many from the shuffled training set (`fresh`).
        per_class: the number of examples of each class.
        mode: batch norms use the statistics of the batch (`train`) or the running ones (`eval`).

    Raises UserError if the scores are not finite or all are 0, or if torch cannot differentiate an
    operation of the network twice.
    """
    copy = scoring_copy(net, mode)
    weights = prunable(copy)
    gates = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    parameters: dict[str, Tensor] = {
        name: parameter.detach().requires_grad_() for name, parameter in copy.named_parameters()
    }
    for name, gate in gates.items():
        parameters[name] = gate * parameters[name].detach()
    velocity: dict[str, Tensor] = {}
    batches = _batches(task, examples, per_class)

    def loss() -> Tensor:
        return batch_loss(
            lambda inputs: functional_call(copy, parameters, (inputs,)), task, *next(batches)
        )

    full = order == "full" and steps > 0
    with second_derivatives() if full else nullcontext():
        for step in range(steps):
            slopes = torch.autograd.grad(
                loss(), list(parameters.values()), create_graph=full, materialize_grads=True
            )
            for (name, parameter), slope in zip(parameters.items(), slopes, strict=True):
                if momentum and step == 0 and first_step == "authors":
                    slope = slope.detach()
                slope = velocity[name] = momentum * velocity.get(name, 0) + slope
                parameters[name] = parameter - lr * slope
        last = loss()
        if full:
            refuse_lost_derivatives(last)
        sensitivities = torch.autograd.grad(last, list(gates.values()), materialize_grads=True)
    return Scores(normalised({n: s.abs() for n, s in zip(gates, sensitivities, strict=True)}))


def _batches(task: Task, examples: str, per_class: int) -> Iterator[Batch]:
    size = per_class * task.classes
    while examples == "same":
        yield from task.batches(per_class=per_class, size=size)
    while True:
        yield from task.batches(size=size)

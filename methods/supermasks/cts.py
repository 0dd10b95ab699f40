"""Concrete ticket search (CTS): learn gates on frozen weights, and close all but a few of them.

Paper: Arora & Teuscher, "Concrete Ticket Search", 2025 (arXiv 2512.07142).

Each weight has a log-odds a. A step draws a gate sigmoid(logit(u) / t + a) for each weight, with u
uniform in [0, 1] and t = 2/3, and trains a on an objective of the network with weights gate * w.
GradBalance adds a gradient that closes gates while more than 1.1 times the final count are expected
to be open, as long as the gradient of the objective. The weights with the largest a are kept.

The objectives are the loss on the labels (`loss`), and the divergence between the outputs of the
masked and of the dense network, KL(masked | dense) (`kl`, the paper's recommendation and the
default) or KL(dense | masked) (`forward_kl`). The defaults follow the authors' code: Adam with
learning rate 0.1, which falls to a tenth at 88 % of the search, batches of 512, no augmentation, an
eighth of the recipe's epochs. Batch norms use the statistics of the batch, as the authors' have no
running ones. The expected count is the sum of sigmoid(a); the gates' own mean differs a little.
"""

import math
from copy import deepcopy
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from paibench.methods.baselines.dense import dense_state, rewind_step
from paibench.methods.core.mask import Weights, flatten, num_kept, prunable, total, unflatten
from paibench.methods.core.random_streams import derive
from paibench.methods.core.scoring import refusing_small_batches, scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.supermasks.supermask import cache_name
from paibench.methods.training.services import State

TEMPERATURE = 2 / 3
MARGIN = 1.1
"""The expected number of open gates, over the final count, from which gates are closed."""
SMOOTHING = 0.01
SCALE = 100.0
"""The factor of the objective and of the excess of open gates; Adam divides it out again."""
LAST_PART = 0.88
"""The part of the search after which the learning rate falls to a tenth."""
Objective = Literal["kl", "forward_kl", "loss"]


def cts(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    objective: Objective = "kl",
    epochs: Annotated[int | None, "[1, inf)"] = None,
    lr: Annotated[float, "(0, inf)"] = 0.1,
    batch: Annotated[int, "[1, inf)"] = 512,
    rewind_epoch: Annotated[float, "[0, inf)"] = 0.0,
) -> Scores | Ticket:
    """Return the log-odds of the gates as scores; the weights are not trained.

    Options:
        objective: what the gates are trained for: that the outputs stay those of the dense network
            (`kl`, `forward_kl`), or the loss on the labels (`loss`).
        epochs: the number of epochs of the search; None is an eighth of the recipe's.
        lr: the learning rate of the log-odds.
        batch: the number of examples in a batch.
        rewind_epoch: search at the weights of this epoch of the dense run, and train from there; 0
            is initialization.

    Raises UserError if `rewind_epoch` is beyond the recipe, or a batch norm has no statistics.
    """
    weights = prunable(net)
    kept_count = num_kept(density, total(weights))
    if kept_count == total(weights):
        return Scores({name: torch.zeros_like(weight) for name, weight in weights.items()})
    step = rewind_step(task, rewind_epoch, "cts")
    state = dense_state(net, task, step) if step else {}
    if state:
        net = deepcopy(net)  # the search leaves the given network as it is
        net.load_state_dict(state)
    epochs = epochs or max(task.recipe.epochs // 8, 1)

    def compute() -> State:
        return {"log_odds": _search(net, task, density, objective, epochs, lr, batch)}

    name = cache_name("cts", options=(density, objective, epochs, lr, batch, step))
    log_odds = task.memo(name, compute)["log_odds"].to(task.device)
    scores = Scores(unflatten(log_odds, weights))
    return Ticket(scores, state, start=step) if state else scores


def _search(
    net: nn.Module,
    task: Task,
    density: float,
    objective: Objective,
    epochs: int,
    lr: float,
    batch: int,
) -> Tensor:
    """Return the log-odds of the gates after the search."""
    copy = scoring_copy(net, "train").requires_grad_(False)
    frozen: Weights = {name: weight.detach() for name, weight in prunable(copy).items()}
    values = flatten(frozen)
    log_odds = nn.Parameter(torch.full_like(values, math.log(density / (1 - density))))
    balance = GradBalance(density * values.numel())
    optimizer = torch.optim.Adam([log_odds], lr=lr)
    draw = torch.Generator(task.device).manual_seed(derive(task.seed, "cts"))
    done, last = 0, LAST_PART * epochs * len(range(0, task.examples, batch))
    for epoch in range(epochs):
        for inputs, labels in task.batches(size=batch, epoch=epoch):
            if done >= last:
                optimizer.param_groups[0]["lr"] = lr / 10
            effective = unflatten(gates(log_odds, draw) * values, frozen)
            with refusing_small_batches(""):
                outputs = functional_call(copy, effective, (inputs,))
                distance = _distance(copy, inputs, outputs, labels, task, objective)
            (gradient,) = torch.autograd.grad(SCALE * distance, log_odds)
            log_odds.grad = balance(gradient, log_odds.detach())
            optimizer.step()
            done += 1
    return log_odds.detach()


def gates(log_odds: Tensor, draw: torch.Generator) -> Tensor:
    """Return a random gate in (0, 1) for each log-odds; the gradient leads to the log-odds."""
    u = torch.rand(log_odds.shape, dtype=log_odds.dtype, device=log_odds.device, generator=draw)
    # the temperature divides the noise only
    return torch.sigmoid(torch.logit(u, eps=1e-10) / TEMPERATURE + log_odds)


def _distance(
    copy: nn.Module,
    inputs: Tensor,
    outputs: Tensor,
    labels: Tensor,
    task: Task,
    objective: Objective,
) -> Tensor:
    """Return the objective of a batch."""
    # also counts the backward pass
    loss = task.loss(outputs, labels)
    if objective == "loss":
        return loss
    with torch.no_grad():
        dense = copy(inputs).log_softmax(1)
    task.count(len(labels), 0)
    masked = outputs.log_softmax(1)
    first, second = (masked, dense) if objective == "kl" else (dense, masked)
    # kl_div(log q, log p) is KL(p | q)
    return F.kl_div(second, first, reduction="batchmean", log_target=True)


class GradBalance:
    """Adds to a gradient the one that closes gates, while too many are expected to be open.

    `multiplier` is the smoothed ratio of the norms of the two gradients, which is 0 as long as the
    expected count, the sum of sigmoid(a), has not exceeded 1.1 times the final one.
    """

    def __init__(self, kept: float) -> None:
        self.target = MARGIN * kept
        self.multiplier: Tensor | None = None

    def __call__(self, gradient: Tensor, log_odds: Tensor) -> Tensor:
        """Return the sum of the gradient [n] of an objective and the closing one."""
        p = log_odds.sigmoid()
        closing = SCALE / self.target * p * (1 - p)
        tiny = torch.finfo(p.dtype).tiny
        ratio = _norm(gradient) / _norm(closing).clamp(min=tiny)
        ratio = torch.where(p.sum() > self.target, ratio, 0)
        if self.multiplier is None:
            self.multiplier = ratio
        self.multiplier = (1 - SMOOTHING) * self.multiplier + SMOOTHING * ratio
        return gradient + self.multiplier * closing


def _norm(vector: Tensor) -> Tensor:
    """Return the Euclidean norm; the squares of small entries do not underflow."""
    largest = vector.abs().max().clamp(min=torch.finfo(vector.dtype).tiny)
    length: Tensor = torch.linalg.vector_norm(vector / largest) * largest
    return length
